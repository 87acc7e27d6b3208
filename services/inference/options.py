"""What an engine may be told: limits, weights, and how much it holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.inference.schedule import Limits


@dataclass(frozen=True)
class EngineOptions:
    limits: Limits = field(default_factory=Limits)
    weights: Mapping[str, float] = field(default_factory=dict)
    """Of owners, ``tenant/key``; 1 for everybody else."""
    max_queue: int = 256
    """Generations that wait or run."""
    max_queued_tokens: int = 4_000_000
    """Rows that wait to be computed; a single prompt is always taken by an empty engine."""
    embedding_bytes: int = 256 * 2**20
    """Embeddings at the shard."""
    heed_pauses: bool = True
    """Whether eviction believes announced pauses; else it is least recently used."""
