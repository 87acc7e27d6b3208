"""Requests to the decoders, with the limits of a default configuration."""

from pathlib import Path

from schemas.media import MediaKind, MediaOptions
from services.ingest.app import limits
from services.ingest.config import IngestConfig
from services.ingest.exchange import DecodeLimits, DecodeRequest

LIMITS: DecodeLimits = limits(IngestConfig()).decode


def request(
    source: Path,
    output: Path,
    kind: MediaKind = "video",
    *,
    limits: DecodeLimits = LIMITS,
    options: MediaOptions | None = None,
) -> DecodeRequest:
    output.mkdir(exist_ok=True)
    return DecodeRequest(
        source=str(source), output=str(output), kind=kind, options=options or MediaOptions(), limits=limits
    )


def ignore(stage: str) -> None:
    """A report that nobody reads."""
