"""Area INFERENCE: the variables ``MOONTIDE_INFERENCE_*``."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

Positive = Annotated[int, msgspec.Meta(ge=1)]


class InferenceConfig(msgspec.Struct, frozen=True, kw_only=True):
    checkpoint_dir: Path
    model: str | None = None
    """Name to serve; by default the name of the checkpoint directory, in lower case."""
    max_queue: Positive = 32
    """Generations that wait or run; one more is refused with a retry-after."""
    prefill_slice_tokens: Positive = 256
    threads: Positive | None = None
    """Of torch; by default what torch chooses for this machine."""
    device: str = "cpu"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the computation. ``auto``: float32 on a CPU, the checkpoint's own on a GPU."""
    encoder_cache_bytes: Positive = 256 * 2**20

    @property
    def served_model(self) -> str:
        return self.model or self.checkpoint_dir.resolve().name.lower()
