"""One model on one fleet of equal devices: what each device must hold, and whether it can.

Input: configuration, fleet, load. Output: tasks for ``placement``, shares of devices, holders for ``decode``.

The plan of the shards: a device holds a contiguous range of layers (attention, norms, router, shared and dense blocks)
with the cache of these layers, so that no byte of weights or latents is held twice (tensor parallelism would copy the
latent cache to every device); the first also embedding, tower and projector, the last the head. Routed experts are
spread over all devices in contiguous ranges, the same in each layer; what finds no room lives in host memory.
"""

from dataclasses import replace

import msgspec

from shared.model import activations, decode, placement
from shared.model.burden import burden
from shared.model.config import ModelConfig
from shared.model.devices import HOST_BANDWIDTH, Device
from shared.model.figures import CACHE_ELEMENT_BYTES
from shared.model.placement import Placement, Task


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """``count`` equal devices, and the memory of the hosts they sit in (0: all must live on the devices)."""

    device: Device
    count: int
    host_memory_bytes: int = 0
    host_bandwidth_bytes_per_second: float = HOST_BANDWIDTH
    """Of all hosts together."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """``concurrency`` sequences of ``context`` tokens each; prompts are computed ``slice_tokens`` at a time."""

    context: int
    concurrency: int = 1
    slice_tokens: int = 256


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What one device holds."""

    weight_bytes: int
    cache_bytes: int
    activation_bytes: int
    layers: tuple[int, ...]
    experts: tuple[int, ...]
    """The same in each layer that has routed experts."""
    margin_bytes: int
    """Free memory; negative: so much is missing."""


class Fitting:
    def __init__(self, config: ModelConfig, fleet: Fleet) -> None:
        self.config, self.fleet = config, fleet
        self.burden = burden(config)
        text = config.text
        self.mixed_layers = max(text.num_hidden_layers - text.first_k_dense_replace, 0)
        self.cache_row_bytes = (text.kv_lora_rank + text.qk_rope_head_dim) * CACHE_ELEMENT_BYTES
        """Of one token in one layer."""

    def task(self, load: Load, count: int) -> Task:
        """The question that ``placement`` answers."""
        cache = self.cache_row_bytes * load.context * load.concurrency
        fixed = [ends + used for ends, used in zip(self.ends(count), self.activations(load, count), strict=True)]
        return Task(
            layers=[layer + cache for layer in self.burden.layers],
            fixed=fixed,
            expert=self.burden.expert,
            expert_count=len(self.burden.experts),
            capacity=self.fleet.device.memory_bytes,
        )

    def ends(self, count: int) -> list[int]:
        """Bytes of weights [count] that sit on the first and on the last device, whatever layers these hold."""
        held = [0] * count
        held[0] += self.burden.embedding + self.burden.media
        held[-1] += self.burden.head
        return held

    def activations(self, load: Load, count: int) -> list[int]:
        """[count] bytes."""
        rows = max(load.slice_tokens, load.concurrency)
        used = [activations.everywhere(self.config, rows)] * count
        used[0] += activations.first(self.config)
        used[-1] += activations.last(self.config, load.concurrency)
        return used

    def fits(self, load: Load) -> bool:
        task = self.task(load, self.fleet.count)
        if placement.place(task) is not None:
            return True
        if not self.fleet.host_memory_bytes or placement.roomiest(task) is None:
            return False
        held = sum(placement.overflowing(task, self.spare).experts)
        return self.host_bytes(task.expert_count - held) <= self.fleet.host_memory_bytes

    @property
    def spare(self) -> int | None:
        """Experts that the host memory has room for; None without any: then a plan says what it would have to hold."""
        if not self.fleet.host_memory_bytes:
            return None
        return self.fleet.host_memory_bytes // max(self.burden.expert, 1)

    def host_bytes(self, experts: int) -> int:
        """Bytes of the last ``experts`` experts, which are those in host memory."""
        return sum(self.burden.experts[len(self.burden.experts) - experts :])

    def fits_on(self, load: Load, count: int) -> bool:
        """On ``count`` devices alone."""
        return placement.place(self.task(load, count)) is not None

    def placement(self, load: Load) -> Placement:
        """The best there is; where it does not fit, experts overflow to host memory, or, without GPU, the hosts."""
        task = self.task(load, self.fleet.count)
        if (placed := placement.place(task)) is not None:
            return placed
        return placement.overloaded(task) if self.fleet.device.is_host else placement.overflowing(task, self.spare)

    def shares(self, load: Load, placed: Placement) -> tuple[Share, ...]:
        ends, used = self.ends(self.fleet.count), self.activations(load, self.fleet.count)
        shares, expert = [], 0
        for index, (start, end) in enumerate(zip(placed.bounds, placed.bounds[1:], strict=False)):
            experts = tuple(range(expert, expert + placed.experts[index]))
            weights = ends[index] + sum(self.burden.layers[start:end]) + sum(self.burden.experts[e] for e in experts)
            cache = self.cache_row_bytes * load.context * load.concurrency * (end - start)
            shares.append(
                Share(
                    weight_bytes=weights,
                    cache_bytes=cache,
                    activation_bytes=used[index],
                    layers=tuple(range(start, end)),
                    experts=experts,
                    margin_bytes=self.fleet.device.memory_bytes - weights - cache - used[index],
                )
            )
            expert += len(experts)
        return tuple(shares)

    def holders(self, load: Load, placed: Placement) -> list[decode.Holder]:
        """Devices, then the host memory if it holds experts. Of the embedding one row per token is read: nothing."""
        total = max(len(self.burden.experts), 1)
        held = [
            decode.Holder(
                bandwidth=self.fleet.device.bandwidth_bytes_per_second,
                trunk=sum(self.burden.layers[start:end]),
                cache=self.cache_row_bytes * load.context * (end - start),
                expert_share=experts / total,
            )
            for start, end, experts in zip(placed.bounds, placed.bounds[1:], placed.experts, strict=False)
        ]
        held[-1] = replace(held[-1], trunk=held[-1].trunk + self.burden.head)
        if left := len(self.burden.experts) - sum(placed.experts):
            bandwidth = self.fleet.host_bandwidth_bytes_per_second
            held.append(decode.Holder(bandwidth=bandwidth, trunk=0, cache=0, expert_share=left / total))
        return held

    def routing(self) -> decode.Routing:
        text = self.config.text
        per_layer = self.burden.expert / self.mixed_layers if self.mixed_layers else 0.0
        return decode.Routing(
            experts=text.n_routed_experts,
            chosen=text.num_experts_per_tok,
            layers=self.mixed_layers,
            expert_bytes=per_layer,
        )
