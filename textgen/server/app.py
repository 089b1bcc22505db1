"""The routes of the server, who may use them, and connections that take too long.

Starlette and not FastAPI: requests are checked by ``protocol``, whose errors clients know, and
nothing of what FastAPI adds would be used.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from functools import partial
from html import escape
from typing import Any
from urllib.parse import urlsplit

import h11
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from textgen import __version__
from textgen.errors import TextgenError, UsageError
from textgen.exports import html
from textgen.language_model import LanguageModel
from textgen.server import protocol
from textgen.server.completions import Completer, Completion, describe
from textgen.server.config import ServerConfig
from textgen.server.protocol import CompletionRequest, ProtocolError
from textgen.server.worker import Row, Worker, notify_all

_HEAD_SECONDS, _BODY_SECONDS = 10.0, 30.0
_BETWEEN_EVENTS, _BETWEEN_EVENTS_PER_TEXT = 0.05, 0.0025
"""Seconds: text that comes sooner after other text joins the next event. An event costs as much as
the tokens of several texts, so they are the rarer the more texts are written: together they cost
the same share of the time (``benchmarks/serving.py``)."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Connection(H11Protocol):
    """A connection that is closed if the head of a request does not come in time."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._head_timer.cancel()
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_timer.cancel()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(_HEAD_SECONDS, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP with the error object."""
        body = JSONResponse(ProtocolError(msg).body()).body
        headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
        head = h11.Response(status_code=400, headers=[*headers, ("connection", "close")])
        for event in (head, h11.Data(data=bytes(body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def http_server(app: Any) -> uvicorn.Server:
    """The server of an application, which writes nothing but unexpected errors."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            http=Connection,
            ws="none",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            h11_max_incomplete_event_size=2**16,
        )
    )


class Gate:
    """Refuses requests from other origins, under other names of the host, and without the key.

    A page of another origin could otherwise send requests, though not read the answers; and one
    whose name is made to lead to this address (DNS rebinding) could read them.
    """

    def __init__(self, app: Any, config: ServerConfig) -> None:
        self._app, self._config = app, config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(Request(scope))
            except ProtocolError as error:
                await _failed(error)(scope, receive, send)
                return
            except ValueError:  # of a name of the host that is none
                await _failed(ProtocolError("not a host"))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, request: Request) -> None:
        config = self._config
        host = request.headers.get("host", "")
        if config.host in _LOOPBACK and urlsplit(f"//{host}").hostname not in _LOOPBACK:
            raise ProtocolError(
                "the server is there for this machine alone", status=403, type="permission_error"
            )
        origin = request.headers.get("origin")
        allowed = {None, f"{request.scope['scheme']}://{host}", *config.allow_origin}
        if origin not in allowed and "*" not in config.allow_origin:
            raise ProtocolError(
                "pages of other origins may not use the server",
                status=403,
                type="permission_error",
            )
        if config.api_key is not None and request.scope["path"].startswith(_GUARDED):
            scheme, _, key = request.headers.get("authorization", "").partition(" ")
            is_key = secrets.compare_digest(key.strip().encode("latin-1"), config.api_key.encode())
            if scheme.lower() != "bearer" or not is_key:
                raise ProtocolError(
                    "the API key is missing or wrong",
                    status=401,
                    type="authentication_error",
                    code="invalid_api_key",
                )


_GUARDED = ("/v1/", "/tokenize", "/detokenize", "/tokenizer_info")


def _failed(error: ProtocolError) -> JSONResponse:
    headers = {}
    if error.status in (408, 413):  # the rest of the body is not wanted
        headers["connection"] = "close"
    if error.status == 429:
        headers["retry-after"] = "1"
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(error.body(), error.status, headers)


def _as_protocol_error(error: Exception) -> ProtocolError:
    if isinstance(error, ProtocolError):
        return error
    if isinstance(error, HTTPException):
        kind: protocol.ErrorType = (
            "not_found_error" if error.status_code == 404 else ("invalid_request_error")
        )
        return ProtocolError(error.detail, status=error.status_code, type=kind)
    what = str(error) if isinstance(error, TextgenError) else f"unexpected {type(error).__name__}"
    return ProtocolError(what, status=500, type="server_error")


class News:
    """What a completion waits for: something new, but in a pause only the end of a text."""

    def __init__(self) -> None:
        self._wake = asyncio.Event()
        self._has_come = self._is_pausing = False

    def notify(self, has_ended: bool) -> None:
        self._has_come = True
        if has_ended or not self._is_pausing:
            self._wake.set()

    def pause(self, seconds: float) -> None:
        self._is_pausing = True
        asyncio.get_running_loop().call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._is_pausing = False
        if self._has_come:
            self._wake.set()

    async def wait(self) -> None:
        await self._wake.wait()
        self._wake.clear()
        self._has_come = False


class Server:
    """The routes, for one model. ``app`` is the ASGI application."""

    def __init__(self, model: LanguageModel, name: str, config: ServerConfig) -> None:
        self._model, self.name, self._config = model, name, config
        self._completer = Completer(model, config)
        self._worker = Worker(model.model, max_waiting=config.max_waiting, announce=self._announce)
        self._page: bytes | None = None
        post, get = ["POST"], ["GET"]
        routes = [
            Route("/", self._show_page, methods=get),
            Route("/health", self._health, methods=get),
            Route("/v1/models", self._models, methods=get),
            Route("/v1/models/{name:path}", self._one_model, methods=get),
            Route("/v1/completions", self._complete, methods=post),
            Route("/tokenize", self._tokenize, methods=post),
            Route("/detokenize", self._detokenize, methods=post),
            Route("/tokenizer_info", self._tokenizer_info, methods=get),
        ]
        middleware = [Middleware(Gate, config=config)]
        if config.allow_origin:
            cors = {"allow_origins": config.allow_origin, "allow_headers": ["*"]}
            middleware.insert(0, Middleware(CORSMiddleware, allow_methods=["*"], **cors))

        async def failed(request: Request, error: Exception) -> Response:
            return _failed(_as_protocol_error(error))

        kinds = (ProtocolError, TextgenError, HTTPException, Exception)
        self.app = Starlette(
            routes=routes,
            middleware=middleware,
            exception_handlers=dict.fromkeys(kinds, failed),
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        self._worker.start()
        yield
        await asyncio.to_thread(self._worker.stop)

    def _announce(self, rows: Sequence[Row]) -> None:
        """Wake the loop from the thread of the worker, once for all: each time interrupts it."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(notify_all, rows)

    async def _health(self, request: Request) -> Response:
        running, waiting = self._worker.rows
        return JSONResponse({"status": "ok", "running": running, "waiting": waiting})

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._description()]})

    async def _one_model(self, request: Request) -> Response:
        protocol.check_model(protocol.Fields({"model": request.path_params["name"]}), self.name)
        return JSONResponse(self._description())

    def _description(self) -> dict[str, Any]:
        created = int(self._model.path.stat().st_mtime) if self._model.path.exists() else 0
        described = {"id": self.name, "object": "model", "created": created}
        return described | {"owned_by": "textgen", "max_model_len": self._longest}

    @property
    def _longest(self) -> int:
        return self._config.max_prompt + self._config.max_tokens

    async def _tokenizer_info(self, request: Request) -> Response:
        return JSONResponse(describe(self._model))

    async def _tokenize(self, request: Request) -> Response:
        fields = protocol.Fields(protocol.parse_json(await self._body(request)))
        protocol.check_model(fields, self.name)
        text = fields.text("prompt")
        fields.truth("add_special_tokens")  # there are none to add
        fields.end()
        ids = self._model.tokenizer.encode(text).tolist()
        return JSONResponse({"tokens": ids, "count": len(ids), "max_model_len": self._longest})

    async def _detokenize(self, request: Request) -> Response:
        fields = protocol.Fields(protocol.parse_json(await self._body(request)))
        protocol.check_model(fields, self.name)
        size = self._model.tokenizer.vocabulary_size
        ids = protocol.parse_ids(fields.take("tokens", []), "tokens", size)
        fields.end()
        return JSONResponse({"prompt": self._model.tokenizer.decode(ids)})

    async def _body(self, request: Request) -> bytes:
        """The body of a request. Raises ProtocolError if it is too large or comes too slowly."""
        body = bytearray()
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                async for part in request.stream():
                    body += part
                    if len(body) > self._config.max_body:
                        raise ProtocolError(
                            f"the body has more than {self._config.max_body} bytes", status=413
                        )
        except ClientDisconnect:
            raise ProtocolError("the client has gone", status=499) from None
        except TimeoutError:
            raise ProtocolError(
                "the body did not come in time", status=408, type="timeout_error"
            ) from None
        return bytes(body)

    async def _complete(self, request: Request) -> Response:
        size = self._model.tokenizer.vocabulary_size
        body = await self._body(request)
        asked = protocol.parse_completion(body, self._config, self.name, size)
        generator, prompts = self._completer.prompts(asked)
        news, deadline = News(), self._loop.time() + self._config.max_seconds
        scores = None
        if asked.echo and asked.logprobs is not None:
            scores = []
            async with self._until(deadline):
                for work in self._completer.scoring(asked, prompts):
                    scores += await asyncio.wrap_future(self._worker.call(work))

        completion = self._completer.begin(asked, generator, prompts, scores, news.notify)
        self._worker.submit(completion.rows)
        parts = self._parts(asked, completion, news, deadline)
        if asked.stream:
            return StreamingResponse(
                _events(parts),
                media_type="text/event-stream",
                headers={"cache-control": "no-store"},
            )
        gone = asyncio.ensure_future(_disconnected(request))
        answer = asyncio.ensure_future(_last(parts))
        try:
            await asyncio.wait((gone, answer), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise ClientDisconnect
            return JSONResponse(answer.result())
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        finally:
            gone.cancel()
            answer.cancel()
            self._worker.cancel(completion.rows)

    async def _parts(
        self,
        asked: CompletionRequest,
        completion: Completion,
        news: News,
        deadline: float,
    ) -> AsyncIterator[dict[str, Any]]:
        """The parts of a completion as they come; without streaming, all of it at once.

        However it ends, its rows are free.
        """
        made = partial(protocol.completion, completion.id, completion.created, self.name)
        usage = {"usage": None} if asked.include_usage else {}
        try:
            while True:
                if asked.stream or completion.ready:
                    choices = []
                    for choice in completion.choices:
                        had_ended = choice.finish_reason is not None and not choice.echoed
                        text, found = ("", None) if had_ended else choice.take()
                        ended = choice.finish_reason if not had_ended else None
                        if text or ended or not asked.stream or (found and found.tokens):
                            choices.append(protocol.choice(choice.index, text, ended, found))
                    if choices and asked.stream:
                        yield made(choices, **usage)
                    if completion.finished:
                        break
                    if choices:
                        running = self._worker.rows[0]
                        news.pause(max(_BETWEEN_EVENTS, running * _BETWEEN_EVENTS_PER_TEXT))
                async with self._until(deadline):
                    await news.wait()
            total = protocol.usage(completion.prompt_tokens, completion.completion_tokens)
            if not asked.stream:
                yield made(choices, usage=total)
            elif asked.include_usage:
                yield made([], usage=total)
        finally:
            self._worker.cancel(completion.rows)

    @contextlib.asynccontextmanager
    async def _until(self, deadline: float) -> AsyncIterator[None]:
        """Raise ProtocolError where this has not ended by the deadline, a time of the loop."""
        try:
            async with asyncio.timeout_at(deadline):
                yield
            if self._loop.time() > deadline:  # nothing had to be waited for
                raise TimeoutError
        except TimeoutError:
            raise ProtocolError(
                f"the request took more than {self._config.max_seconds:g} seconds",
                status=504,
                type="timeout_error",
            ) from None

    async def _show_page(self, request: Request) -> Response:
        if self._page is None:
            self._page = await asyncio.to_thread(page, self._model, self.name)
        return HTMLResponse(self._page, headers={"x-content-type-options": "nosniff"})


async def _events(parts: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    """Parts of a completion as server-sent events; an error is one, too, and then the last."""
    try:
        async for part in parts:
            yield protocol.event(part)
        yield protocol.LAST_EVENT
    except Exception as error:
        yield protocol.event(_as_protocol_error(error).body())


async def _last(parts: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    found = [part async for part in parts]
    return found[-1]


async def _disconnected(request: Request) -> None:
    """Return when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{name}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'">
<h1>{name}</h1>
<p>{description}</p>
<p>textgen {version} serves this model at /v1/completions, by the protocol of OpenAI.</p>
</html>
"""


def page(model: LanguageModel, name: str) -> bytes:
    """The page at ``/``: that of ``textgen export --to html``, or a plain one.

    A model that the page cannot hold has the plain one.
    """
    with contextlib.suppress(UsageError):
        return html.page(model)[0]
    description = f"{model.header.model.description}, {model.header.parameters:,} parameters"
    shown = {"name": escape(name), "description": escape(description), "version": __version__}
    return _PAGE.format(**shown).encode()
