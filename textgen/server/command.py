"""``textgen serve``: answer requests for texts of a model, by the protocol of OpenAI."""

import contextlib
import errno
import socket
from pathlib import Path

from textgen.cli import options
from textgen.cli.options import command_options
from textgen.errors import ResourceError, UsageError, missing_package
from textgen.presentation import console
from textgen.server.config import ServerConfig

EXAMPLES = """
    Answer requests on http://127.0.0.1:8000, from this machine alone:
    textgen serve checkpoints/mine
    In the network, for those who have the key:
    textgen serve checkpoints/mine --host 0.0.0.0 --port 9000 --api-key secret
"""

_CONNECTIONS = 16384


@command_options
def serve(
    *,
    checkpoint: options.Checkpoint,
    config: ServerConfig,
    device: options.DeviceOption = "auto",
    threads: options.ThreadsOption = None,
) -> None:
    """Answer requests for texts of a model, by the completions protocol of OpenAI.

    The same page at /, and /v1/models, /v1/completions, /tokenize, /detokenize, /tokenizer_info
    and /health. Requests are written side by side. Ctrl-C finishes those that have come, then
    ends; once more, at once.
    """
    from textgen.inference.native import kernels
    from textgen.language_model import LanguageModel
    from textgen.sampling.text import check_is_causal

    try:
        from textgen.server.app import Server, http_server
    except ModuleNotFoundError as error:
        raise missing_package("textgen serve", "starlette", "serve") from error
    model = LanguageModel.load(checkpoint, device=device, threads=threads)
    check_is_causal(model.model)
    options.say_notes(model)
    kernels.library(model.model.device, model.model.dtype)  # compiled meanwhile, if it is not yet
    listener = listen(config.host, config.port)
    _allow_connections()
    served = Server(model, Path(checkpoint).resolve().name, config)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    console.note(f"serving {served.name} on http://{shown}:{port}; Ctrl-C ends")
    if config.api_key is None and config.host not in ("127.0.0.1", "localhost", "::1"):
        console.note("everybody who reaches this address can use it; --api-key KEY asks for a key")
    http_server(served.app).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ResourceError: The port is in use, or may not be used.
        UsageError: The address is not one of this machine.
    """
    where = f"{host}:{port}"
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            why = "another program listens there"
            raise ResourceError(
                "the port is in use", where=where, why=why, fix="give another --port"
            ) from None
        if error.errno == errno.EACCES:
            raise ResourceError(
                "the port is not allowed", where=where, fix="give a --port above 1023"
            ) from None
        why = error.strerror or str(error)
        raise UsageError("cannot listen", where=where, why=why, fix="give another --host") from None


def _allow_connections() -> None:
    """Let the process have more connections than the 1,024 files that many systems allow."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows has no such limit
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _CONNECTIONS if hard == resource.RLIM_INFINITY else min(_CONNECTIONS, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
