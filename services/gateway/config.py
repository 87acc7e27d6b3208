"""Configuration of the gateway: variables ``MOONTIDE_GATEWAY_*``. Every bound of the service is here."""

from pathlib import Path
from typing import Literal

import msgspec

MIB = 1024 * 1024


class GatewayConfig(msgspec.Struct, frozen=True, kw_only=True):
    host: str = "127.0.0.1"
    port: int = 8080
    """0 takes a free one."""
    port_file: Path | None = None
    """The port in use is written here once the gateway listens."""
    keys_file: Path | None = None
    """As ``moontide keys`` writes it; without it everybody who reaches the port is served."""
    keys_poll_seconds: float = 1.0
    """How soon a changed keys file counts."""
    quota_completion_tokens: int = 1024
    """What the completion of a chat without ``max_completion_tokens`` counts with, until it is known."""
    sampling: Literal["open", "kimi"] = "open"
    """kimi: Moonshot's fixed values and its further rules; anything else is a 400. open: the usual ranges."""
    max_requests: int = 64
    """Choices of chats held at once; more are refused with 429."""
    max_uploads: int = 8
    body_max_bytes: int = 32 * MIB
    """Of one chat request, media as data URIs included; larger media belong into ``/v1/files``."""
    bodies_max_bytes: int = 256 * MIB
    """Of all chat requests that are being read at this moment: bounds memory."""
    body_timeout_seconds: float = 60.0
    file_max_bytes: int = 100 * MIB
    upload_timeout_seconds: float = 600.0
    request_timeout_seconds: float = 3600.0
    """From a chat request to the end of its answer."""
    write_timeout_seconds: float = 30.0
    """A client that does not read for this long is dropped, and its call cancelled."""
    heartbeat_seconds: float = 10.0
    """A stream that is silent for this long gets a comment line."""
    max_watchers: int = 256
    """Readers of runs at once, chats with agents included; more are refused with 429."""
    run_timeout_seconds: float = 5.0
    """Of one question to a coordinator; three are asked."""
    run_poll_seconds: float = 2.0
    """A run of which nothing is heard for this long is looked at in its ledger."""
    run_unreachable_seconds: float = 60.0
    """How long a reader of a run waits for a coordinator that is gone."""
    models_max_age_seconds: float = 1.0
    trace_timeout_seconds: float = 5.0
    drain_seconds: float = 8.0
    """How long running requests may take after a signal; then they are cancelled, and their records written."""
    events_max_bytes: int = 256 * MIB
    events_max_age_seconds: float = 7 * 24 * 3600.0
    collect_interval_seconds: float = 3600.0
    """How often expired blobs are removed."""
    blob_lifetime_seconds: float = 8 * 24 * 3600.0
    record_lifetime_seconds: float = 7 * 24 * 3600.0
    """Uploaded files and derived results; shorter than the blobs they refer to."""
