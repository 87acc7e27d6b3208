"""Area UPSTREAM: ``MOONTIDE_UPSTREAM_*``. One endpoint from the variables, or several from a table in a JSON file.

Output: one ``UpstreamConfig`` per endpoint, checked. The key itself is in no configuration: only its file is.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from schemas import names
from shared.errors import BadInput

Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]

VideoMode = Literal["auto", "native", "frames"]
ToolsMode = Literal["auto", "never", "always"]
FrameChoice = Literal["uniform", "scenes"]
ToolMedia = Literal["user_message", "native"]
ThinkingSwitch = Literal["auto", "moonshot", "template", "none"]
Capability = Literal["image", "video", "tools", "tool_choice", "response_format"]


class UpstreamConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: str = ""
    """Base of the endpoint; ``/v1`` is added when the URL has no path. Required unless ``table_file`` is given."""
    table_file: Path | None = None
    """JSON array of objects with the fields of this struct: one service process answers for all of them."""
    key_file: Path | None = None
    """Holds the bearer token; read again when the endpoint refuses it, so that it can be rotated."""
    model: str | None = None
    """The name we announce; ``remote_model`` by default."""
    remote_model: str | None = None
    """The name there; by default the only model that the endpoint lists."""
    context_length: Count | None = None
    """By default what the endpoint's model list says, if it does."""
    grammar: bool = False
    """Whether the endpoint keeps what a JSON schema promises: announced, never checked here."""
    lacks: tuple[Capability, ...] = ()
    """What the endpoint cannot do: not announced, so that the gateway refuses it by the field's name."""
    video: VideoMode = "auto"
    tools_streaming: ToolsMode = "auto"
    """never: tool requests go unstreamed and are streamed on from here. auto: so where that is known to be needed."""
    thinking_switch: ThinkingSwitch = "auto"
    """How a request without thinking says so: ``thinking`` of Moonshot's API, or ``chat_template_kwargs``."""
    tool_media: ToolMedia = "user_message"
    """Images and videos in tool results: in a message of the user behind them, or (``native``) inside, where that is
    taken."""
    max_concurrent: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 64
    connect_seconds: Seconds = 5.0
    first_token_seconds: Seconds = 120.0
    """From sending a streamed request to its first event."""
    idle_seconds: Seconds = 30.0
    """Between two events of a stream. Single bytes do not count as life."""
    read_seconds: Seconds = 30.0
    """Between two reads of a body that is not a stream."""
    total_seconds: Seconds = 3600.0
    """Of one attempt; the request's own deadline bounds all of them."""
    max_retries: Annotated[int, msgspec.Meta(ge=0, le=10)] = 3
    max_wait_seconds: Seconds = 20.0
    """Longest wait before a retry: an endpoint that asks for more is passed on as a refusal with that time."""
    breaker_failures: Count = 5
    """Failures in a row after which the endpoint is left alone for ``breaker_seconds``."""
    breaker_seconds: Seconds = 10.0
    media_seconds: Seconds = 120.0
    """How long one input may wait for ingest and its preparation."""
    max_frames: Annotated[int, msgspec.Meta(ge=1, le=512)] = 32
    """Of one video that goes as images."""
    frames_max_bytes: Count = 16 * 1024 * 1024
    """Of all frames of one request, as JPEG."""
    frame_choice: FrameChoice = "uniform"
    media_max_bytes: Count = 64 * 1024 * 1024
    """Of all images and videos of one request that go as they are."""
    answer_max_bytes: Count = 64 * 1024 * 1024


def endpoints(config: UpstreamConfig) -> tuple[UpstreamConfig, ...]:
    """Every endpoint of the configuration. Raises BadInput(``upstream.config``) naming what is wrong."""
    rows = (config,) if config.table_file is None else _table(config.table_file)
    return tuple(msgspec.structs.replace(row, url=base_url(row.url)) for row in rows)


def check_names(models: list[str]) -> None:
    """Two models on one subject would answer each other's requests: that stops the start."""
    slugs = [names.slug(model) for model in models]
    for slug in slugs:
        if slugs.count(slug) > 1:
            raise _wrong(f"two endpoints announce the same model name ({slug})")


def base_url(text: str) -> str:
    """``http[s]://host[:port]/path`` without a slash at its end. Raises BadInput."""
    scheme, _, rest = text.strip().rstrip("/").partition("://")
    host, slash, _ = rest.partition("/")
    if scheme not in ("http", "https") or not host:
        raise _wrong("the endpoint's url must look like http://host:port/v1")
    if "@" in rest or "?" in rest or "#" in rest:
        raise _wrong("the endpoint's url may hold no user, key, query or fragment; the key belongs in key_file")
    return f"{scheme}://{rest}" if slash else f"{scheme}://{rest}/v1"


def _table(path: Path) -> tuple[UpstreamConfig, ...]:
    try:
        rows = msgspec.json.decode(path.read_bytes(), type=tuple[UpstreamConfig, ...], dec_hook=_path)
    except (OSError, msgspec.MsgspecError) as error:
        raise _wrong(f"the table of endpoints cannot be read: {error}") from error
    if not rows or any(row.table_file is not None for row in rows):
        raise _wrong("the table of endpoints must hold at least one endpoint, and no further table")
    return tuple(_beside(path, row) for row in rows)


def _path(kind: type, value: Any) -> Path:
    """JSON has no paths. Raises ValueError, which msgspec tells with the place."""
    if kind is not Path or not isinstance(value, str) or not value:
        raise ValueError("must be the path of a file")
    return Path(value)


def _beside(table: Path, row: UpstreamConfig) -> UpstreamConfig:
    """Key files are found from where the table lies."""
    return row if row.key_file is None else msgspec.structs.replace(row, key_file=table.parent / row.key_file)


def _wrong(message: str) -> BadInput:
    return BadInput("upstream.config", message)
