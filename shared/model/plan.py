"""Whether a model fits on given devices, by how much, and how fast memory lets it decode.

Input: configuration, fleet, load. Output: ``Plan``. Everything follows from the configuration and the published figures
of the devices; no weight is read and no device asked. How shards are cut: ``shared/model/fitting.py``.
"""

from collections.abc import Callable

import msgspec

from shared.errors import BadInput
from shared.model import decode, verdict
from shared.model.config import ModelConfig
from shared.model.fitting import Fitting, Fleet, Load, Share

MAX_DEVICES = 1024
"""Where the search for a count that fits ends."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    device: str
    count: int
    context: int
    concurrency: int
    fits: bool
    sentence: str
    """The verdict with the numbers it follows from."""
    devices: tuple[Share, ...]
    host_bytes: int
    """In host memory, or what would have to live there; without GPU everything is."""
    host_experts: tuple[int, ...]
    """Beside the devices, the same in each layer."""
    host_margin_bytes: int
    """Host memory that is left beside the devices; negative: so much is missing."""
    max_context: int
    """The largest that fits at this concurrency, at most what the model knows; 0: none."""
    max_concurrency: int
    """The most sequences that fit at this context; 0: none."""
    needed_count: int | None
    """The fewest such devices that fit without host memory; None: no number up to 1024 does."""
    decode_ceiling_tokens_per_second: float
    """Of all sequences together at full context: no arrangement like the one shown decodes faster."""
    ceiling_sentence: str


def plan(model: str, config: ModelConfig, fleet: Fleet, load: Load) -> Plan:
    """Raises BadInput when the context is longer than what the model knows, or a number is not positive."""
    _check(config, fleet, load)
    fitting = Fitting(config, fleet)
    placed = fitting.placement(load)
    shares = fitting.shares(load, placed)
    left = len(fitting.burden.experts) - sum(placed.experts)
    beside = fitting.host_bytes(left)
    holders, routing = fitting.holders(load, placed), fitting.routing()
    seconds = decode.round_seconds(holders, routing, load.concurrency)
    fits = fitting.fits(load)
    found = Plan(
        model=model,
        device=fleet.device.name,
        count=fleet.count,
        context=load.context,
        concurrency=load.concurrency,
        fits=fits,
        sentence="",
        devices=shares,
        host_bytes=sum(_held(share) for share in shares) if fleet.device.is_host else beside,
        host_experts=tuple(range(len(fitting.burden.experts) - left, len(fitting.burden.experts))),
        host_margin_bytes=fleet.host_memory_bytes - beside,
        max_context=_max_context(fitting, load),
        max_concurrency=_max_concurrency(fitting, load),
        needed_count=fleet.count if fits and not left else _needed_count(fitting, load),
        decode_ceiling_tokens_per_second=load.concurrency / seconds,
        ceiling_sentence=verdict.ceiling(holders, routing, load),
    )
    return msgspec.structs.replace(found, sentence=verdict.sentence(found, fleet))


def largest(most: int, holds: Callable[[int], bool]) -> int:
    """The largest number from 1 to ``most`` for which a monotone ``holds`` holds; 0: none."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _max_context(fitting: Fitting, load: Load) -> int:
    most = fitting.config.text.max_position_embeddings
    return largest(most, lambda context: fitting.fits(msgspec.structs.replace(load, context=context)))


def _max_concurrency(fitting: Fitting, load: Load) -> int:
    layers = fitting.config.text.num_hidden_layers
    memory = fitting.fleet.count * fitting.fleet.device.memory_bytes
    most = memory // (fitting.cache_row_bytes * layers * load.context)
    return largest(most, lambda concurrency: fitting.fits(msgspec.structs.replace(load, concurrency=concurrency)))


def _needed_count(fitting: Fitting, load: Load) -> int | None:
    """The fewest devices that fit alone: by doubling and bisection, since one more never turns a fit into none."""
    count = 1
    while count <= MAX_DEVICES and not fitting.fits_on(load, count):
        count *= 2
    if count > MAX_DEVICES:
        return None
    return largest(count - 1, lambda fewer: not fitting.fits_on(load, fewer)) + 1


def _held(share: Share) -> int:
    return share.weight_bytes + share.cache_bytes + share.activation_bytes


def _check(config: ModelConfig, fleet: Fleet, load: Load) -> None:
    known = config.text.max_position_embeddings
    if not 1 <= load.context <= known:
        raise _refusal("context", f"context must be 1 to {known:,} tokens, which is what the model knows")
    for name, value in (("concurrency", load.concurrency), ("slice_tokens", load.slice_tokens)):
        if value < 1:
            raise _refusal(name, f"{name} must be at least 1")
    if not 1 <= fleet.count <= MAX_DEVICES:
        raise _refusal("count", f"count must be 1 to {MAX_DEVICES}")


def _refusal(param: str, message: str) -> BadInput:
    return BadInput("plan.bad_use", message, param=param)
