"""Area INGEST: ``MOONTIDE_INGEST_*``. Limits of a job and of the decoder workers."""

from pathlib import Path
from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class IngestConfig(msgspec.Struct, frozen=True, kw_only=True):
    workers: Annotated[int, msgspec.Meta(ge=1, le=256)] = 2
    """Decoder processes, and jobs in flight."""
    threads: Annotated[int, msgspec.Meta(ge=1, le=64)] = 2
    """Of one video decoder."""
    job_seconds: Seconds = 120.0
    """Wall-clock limit of one decoding attempt; a job has two."""
    memory_bytes: Annotated[int, msgspec.Meta(ge=512 * 1024 * 1024)] = 3 * 1024**3
    """Address space of one worker."""
    max_source_bytes: Count = 2 * 1024**3
    max_pixels: Count = 64_000_000
    """Of one picture or video frame."""
    max_duration_seconds: Seconds = 6 * 3600.0
    max_media_tokens: Count = 262_144
    """Of one input: more than the longest context holds is refused before it fills the disk."""
    scratch_directory: Path | None = None
    """For sources and results in work; this machine's temporary directory by default."""
