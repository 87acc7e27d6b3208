"""What a process must be told to reach the bus, and the client options that follow from it.

Secrets come from files, are read again on every reconnect (so that they can be rotated), and appear in no log and no
error.
"""

import ssl
from pathlib import Path
from typing import Annotated, Any

import msgspec

from shared.errors import Unauthorized

PING_SECONDS = 1.0
MAX_LOST_PINGS = 2
RECONNECT_WAIT_SECONDS = 0.25
DIAL_SECONDS = 2
FLUSH_SECONDS = 5.0
OUTGOING_BYTES = 8 * 1024 * 1024
"""What may wait to be sent while disconnected; beyond it ``publish`` raises Unavailable."""


class BusConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Area BUS. ``nats_url`` (variable ``NATS_URL``) may list several servers, separated by commas."""

    nats_url: str
    user: str | None = None
    password_file: Path | None = None
    credentials_file: Path | None = None
    """A ``.creds`` file: user JWT and seed."""
    tls_ca_file: Path | None = None
    """Set: the connection is encrypted and the server's certificate is checked against it, or there is none."""
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    stream_replicas: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1
    """On how many servers of a cluster each stream is kept; 3 outlives the loss of one."""
    connect_seconds: float = 30.0
    """How long the first connection may take; afterwards reconnecting never ends."""


def client_options(config: BusConfig, instance: str) -> dict[str, Any]:
    """Keyword arguments of nats-py's ``connect``. Raises Unauthorized when a file cannot be read."""
    return {
        "servers": [url.strip() for url in config.nats_url.split(",") if url.strip()],
        "name": instance,
        "inbox_prefix": f"_INBOX.{instance}",
        "ping_interval": PING_SECONDS,
        "max_outstanding_pings": MAX_LOST_PINGS,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": RECONNECT_WAIT_SECONDS,
        "connect_timeout": DIAL_SECONDS,
        "pending_size": OUTGOING_BYTES,
        "flush_timeout": FLUSH_SECONDS,
        **_credentials(config),
        **_tls(config),
    }


def _credentials(config: BusConfig) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if config.credentials_file is not None:
        _check_readable(config.credentials_file, "credentials_file")
        options["user_credentials"] = str(config.credentials_file)
    if config.user is not None and config.password_file is not None:
        password_file = config.password_file
        _check_readable(password_file, "password_file")
        options["user"] = config.user
        options["password"] = lambda: password_file.read_text().strip()
    return options


def _tls(config: BusConfig) -> dict[str, Any]:
    if config.tls_ca_file is None and config.tls_cert_file is None:
        return {}
    try:
        context = ssl.create_default_context(cafile=config.tls_ca_file)
        if config.tls_cert_file is not None:
            context.load_cert_chain(config.tls_cert_file, config.tls_key_file)
    except OSError as error:
        raise Unauthorized("bus.tls_unreadable", "the bus's TLS files cannot be used") from error
    return {"tls": context}


def _check_readable(path: Path, field: str) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise Unauthorized("bus.credentials_unreadable", f"the bus's {field} cannot be read", param=field) from error
