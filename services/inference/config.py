"""Area INFERENCE: the variables ``MOONTIDE_INFERENCE_*``."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from shared.errors import BadInput

Positive = Annotated[int, msgspec.Meta(ge=1)]
PositiveFloat = Annotated[float, msgspec.Meta(gt=0)]


Role = Literal["all", "engine", "shard", "encoder"]


class InferenceConfig(msgspec.Struct, frozen=True, kw_only=True):
    checkpoint_dir: Path
    role: Role = "all"
    """``all``: one process. Otherwise one of the three parts; they find each other by the model's name."""
    model: str | None = None
    """Name to serve; by default the name of the checkpoint directory, in lower case."""
    max_queue: Positive = 256
    """Generations that wait or run; one more is refused with a retry-after."""
    max_queued_tokens: Positive = 4_000_000
    """Tokens that wait to be computed, likewise."""
    max_running: Positive = 32
    """Generations in one forward."""
    prefill_slice_tokens: Positive = 256
    """Prompt tokens in one forward. Changes no bit of an answer."""
    batch_patience_seconds: PositiveFloat = 10.0
    """A batch class that computed nothing for so long has its next generation treated as interactive."""
    key_weights: tuple[str, ...] = ()
    """``tenant/key=weight``, comma separated: shares of keys that compete; 1 for every other."""
    cache_bytes: Positive | None = None
    """Of latents, in pages; by default one full context and 1 GiB more. The system hands it over as it is used."""
    heed_pauses: bool = True
    """Evict by announced pauses; false: least recently used."""
    embedding_bytes: Positive = 256 * 2**20
    """Embeddings of media at the shard."""
    encoder_cache_bytes: Positive = 256 * 2**20
    shard_patience_seconds: PositiveFloat = 20.0
    """How long an engine without a shard keeps its generations waiting."""
    threads: Positive | None = None
    """By default one for a small model, else what torch chooses for this machine. Changes no bit of an answer."""
    device: str = "cpu"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the computation. ``auto``: float32 on a CPU, the checkpoint's own on a GPU."""

    @property
    def served_model(self) -> str:
        return self.model or self.checkpoint_dir.resolve().name.lower()

    @property
    def weights(self) -> dict[str, float]:
        """``key_weights`` as numbers. Raises BadInput naming the entry that does not read as one."""
        return dict(_weight(entry) for entry in self.key_weights)


def _weight(entry: str) -> tuple[str, float]:
    owner, found, text = entry.rpartition("=")
    try:
        weight = float(text)
    except ValueError:
        weight = 0.0
    if not (found and "/" in owner and 0 < weight < float("inf")):
        raise BadInput("config.bad_weight", f"key weight {entry!r} is not tenant/key=weight", param="key_weights")
    return owner, weight
