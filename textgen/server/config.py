"""Configuration of the server."""

from dataclasses import dataclass
from functools import partial

from textgen.config import Bounds, Config
from textgen.config.options import option
from textgen.config.sampling import parse_strings
from textgen.errors import UsageError

_server = partial(option, panel="Server")
_limit = partial(option, panel="Limits")


@dataclass(frozen=True)
class ServerConfig(Config):
    """Where the server listens, who may use it, and how much."""

    port: int = _server(8000, "The port to listen on; 0 is any free one.", bounds=Bounds(0, 65535))
    host: str = _server("127.0.0.1", "The address to listen on; 0.0.0.0 is every one.")
    allow_origin: tuple[str, ...] = _server(
        (),
        "Let pages of this origin, such as https://example.org, use the server; may be repeated,"
        " * is all.",
        parse=parse_strings,
    )
    api_key: str | None = _server(
        None, "Refuse requests without this key (Authorization: Bearer KEY).", metavar="KEY"
    )
    max_body: int = _limit(2**20, "Bytes of a request.", bounds=Bounds(1, 2**30))
    max_prompt: int = _limit(16384, "Tokens of a prompt.", bounds=Bounds(1, 2**30))
    max_tokens: int = _limit(16384, "Tokens of a text.", bounds=Bounds(1, 2**30))
    max_choices: int = _limit(256, "Texts of a request, prompts times n.", bounds=Bounds(1, 2**16))
    max_waiting: int = _limit(
        256, "Texts that wait for others to end; beyond, requests are refused.", bounds=Bounds(0)
    )
    max_seconds: float = _limit(
        600.0, "Seconds of a request.", bounds=Bounds(0, 1e9, open_low=True)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for origin in self.allow_origin:
            if origin != "*" and not origin.startswith(("http://", "https://")):
                raise UsageError(
                    f"--allow-origin {origin!r} is no origin", fix="write https://example.org"
                )
