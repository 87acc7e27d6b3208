"""Area COORDINATOR: ``MOONTIDE_COORDINATOR_*``. How many runs one process drives, and what models cost."""

from pathlib import Path
from typing import Annotated

import msgspec

Seconds = Annotated[float, msgspec.Meta(gt=0)]


class CoordinatorConfig(msgspec.Struct, frozen=True, kw_only=True):
    max_runs: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 64
    """Runs that this process drives at once; a wake-up beyond it is left to another process."""
    prices_file: Path | None = None
    """JSON: model name → ``Price``. Without an entry a model costs nothing, and no run on it may have a cost budget."""
    wait_seconds: Seconds = 1.0
    """Before a model or the tools are asked again after a refusal; doubled each time."""
    max_wait_seconds: Seconds = 30.0
    output_reserve_tokens: Annotated[int, msgspec.Meta(ge=1)] = 16_384
    """Of the context, kept free for one answer (a quarter of a small context)."""
    keep_seconds: Seconds = 7 * 24 * 3600.0
    """How long a run's ledger is kept behind its end; shorter than blobs live."""
