"""Plans: sums, limits that are limits, and the released model on real devices, checked by hand."""

import json
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import BadInput
from shared.model import config as configuration
from shared.model import placement, presets, released
from shared.model.burden import burden
from shared.model.config import ModelConfig
from shared.model.devices import GPUS, Device, host
from shared.model.figures import figures
from shared.model.fitting import Fitting, Fleet, Load
from shared.model.placement import Task
from shared.model.plan import Plan, plan

FULL = 262_144


@pytest.fixture(scope="module")
def kimi() -> ModelConfig:
    return configuration.parse(json.dumps(released.document("kimi-k2.6")).encode())


@pytest.fixture(scope="module")
def small() -> ModelConfig:
    return configuration.parse(json.dumps(presets.document("tiny", 512)).encode())


def planned(config: ModelConfig, fleet: Fleet, context: int = FULL, concurrency: int = 1) -> Plan:
    return plan("kimi-k2.6", config, fleet, Load(context=context, concurrency=concurrency))


def gpus(name: str, count: int, host_memory: float = 0) -> Fleet:
    return Fleet(device=GPUS[name], count=count, host_memory_bytes=int(host_memory))


def check(found: Plan, config: ModelConfig, fleet: Fleet) -> None:
    """What holds for every plan."""
    text, known = config.text, burden(config)
    beside = sum(known.experts[expert] for expert in found.host_experts)
    assert sum(share.weight_bytes for share in found.devices) + beside == figures(config).weight_bytes
    per_token = figures(config).cache_bytes_per_token
    assert sum(share.cache_bytes for share in found.devices) == per_token * found.context * found.concurrency
    assert [n for share in found.devices for n in share.layers] == list(range(text.num_hidden_layers))
    experts = [n for share in found.devices for n in share.experts] + list(found.host_experts)
    assert experts == list(range(text.n_routed_experts))
    assert found.host_margin_bytes == fleet.host_memory_bytes - beside
    for share in found.devices:
        held = share.weight_bytes + share.cache_bytes + share.activation_bytes
        assert share.margin_bytes == fleet.device.memory_bytes - held
    assert found.fits == all(m >= 0 for m in (found.host_margin_bytes, *(s.margin_bytes for s in found.devices)))
    assert found.fits == (found.max_context >= found.context) == (found.max_concurrency >= found.concurrency)


def test_the_named_model_is_the_released_one(kimi: ModelConfig, released: ModelConfig) -> None:
    assert kimi.text == released.text
    assert kimi.vision == released.vision
    assert kimi == released


def test_parts_sum_to_the_layout(kimi: ModelConfig) -> None:
    parts = burden(kimi)
    assert parts.total == figures(kimi).weight_bytes
    # An expert of one layer: three matrices of 7168 x 2048, half a byte each and a bf16 scale for 32 of them, and
    # their shapes as two int32.
    assert parts.experts == (60 * 3 * (7168 * 2048 // 2 + 7168 * 2048 // 32 * 2 + 8),) * 384
    assert parts.embedding == 163_840 * 7168 * 2
    assert parts.head == (163_840 + 1) * 7168 * 2


def test_eight_h200_hold_the_whole_context(kimi: ModelConfig) -> None:
    fleet = gpus("h200", 8)
    found = planned(kimi, fleet)
    check(found, kimi, fleet)
    assert found.fits
    assert (found.host_bytes, found.max_context) == (0, FULL)
    assert [len(share.experts) for share in found.devices] == [48] * 8
    # Without experts a token reads 21.1e9 bytes of weights, 262,144 * 70,272 of cache, and 60 experts of 24.8e6.
    seconds = (21.1e9 + FULL * 70_272 + 60 * 24.77e6) / 4.8e12
    assert found.decode_ceiling_tokens_per_second == pytest.approx(1 / seconds, rel=1e-3)
    assert found.sentence.startswith("kimi-k2.6 fits on 8 x h200 (141.00 GB each) at 262,144 tokens x 1: ")


def test_eight_h100_have_a_verdict_with_margins(kimi: ModelConfig) -> None:
    fleet = gpus("h100", 8)
    found = planned(kimi, fleet)
    check(found, kimi, fleet)
    # (595.1 weights + 18.4 cache + 8 * 1.5 activations) / 8 is 78.2e9 of 85.5e9.
    assert found.fits
    assert found.max_context == FULL
    assert [share.margin_bytes / 1e9 for share in found.devices] == pytest.approx([7.2] * 8, abs=0.2)
    assert found.max_concurrency == 3


def test_four_h100_need_host_memory(kimi: ModelConfig) -> None:
    fleet = gpus("h100", 4)
    alone = planned(kimi, fleet)
    check(alone, kimi, fleet)
    assert not alone.fits
    assert (alone.max_context, alone.max_concurrency, alone.needed_count) == (0, 0, 8)
    # 595.1e9 of weights, less what 342e9 hold beside 18.4e9 of cache and 4 * 1.8e9 of activations: 279e9.
    assert alone.host_bytes == pytest.approx(595.1e9 - (342e9 - 18.4e9 - 7.3e9), rel=0.01)
    assert "does not fit" in alone.sentence
    assert f"{alone.host_bytes / 1e9:,.2f} GB (188 experts of each layer) must live in host memory" in alone.sentence
    exactly = gpus("h100", 4, alone.host_bytes)
    helped = planned(kimi, exactly)
    check(helped, kimi, exactly)
    assert helped.fits
    assert helped.host_bytes == alone.host_bytes
    assert not planned(kimi, gpus("h100", 4, alone.host_bytes - burden(kimi).expert)).fits


def test_two_hosts_without_gpu(kimi: ModelConfig) -> None:
    fleet = Fleet(device=host(512_000_000_000), count=2)
    found = planned(kimi, fleet)
    check(found, kimi, fleet)
    assert found.fits
    assert found.host_bytes == pytest.approx(595.1e9 + 18.4e9 + 3.8e9, rel=1e-3)
    # Half of the eight experts on each host, 60 layers.
    seconds = (21.1e9 + FULL * 70_272 + 60 * 4 * 24.77e6) / 460.8e9
    assert found.decode_ceiling_tokens_per_second == pytest.approx(1 / seconds, rel=1e-3)
    one = planned(kimi, msgspec.structs.replace(fleet, count=1))
    assert not one.fits
    assert "103.44 GB more than there is; 2 x host would do" in one.sentence


def test_layers_that_do_not_fit_are_told(kimi: ModelConfig) -> None:
    fleet = gpus("rtx-4090", 1, 1e12)
    found = planned(kimi, fleet)
    check(found, kimi, fleet)
    assert not found.fits
    assert "even with every expert elsewhere" in found.sentence


def test_the_largest_context_and_concurrency_are_the_largest(kimi: ModelConfig) -> None:
    for fleet in (gpus("h100", 8), gpus("h100", 4, 279.5e9), Fleet(device=host(320_000_000_000), count=2)):
        many = planned(kimi, fleet, context=65_536, concurrency=24)
        check(many, kimi, fleet)
        fitting = Fitting(kimi, fleet)
        for name, limit in (("context", many.max_context), ("concurrency", many.max_concurrency)):
            load = Load(context=65_536, concurrency=24)
            assert 0 < limit < FULL, name
            assert fitting.fits(msgspec.structs.replace(load, **{name: limit}))
            assert not fitting.fits(msgspec.structs.replace(load, **{name: limit + 1}))


def test_more_devices_never_take_context_away(kimi: ModelConfig) -> None:
    counts = range(6, 14)
    reached = [planned(kimi, gpus("h100", count), concurrency=4).max_context for count in counts]
    assert reached == sorted(reached)
    assert len(set(reached)) > 2


def test_more_sequences_decode_more_in_all_and_not_more_each(kimi: ModelConfig) -> None:
    rates = {
        n: planned(kimi, gpus("h200", 16), context=8192, concurrency=n).decode_ceiling_tokens_per_second
        for n in (1, 2, 8, 32, 128)
    }
    for (few, slow), (many, fast) in pairwise(rates.items()):
        assert slow <= fast <= slow * many / few * (1 + 1e-9)


def test_what_no_machine_or_model_has_is_refused(small: ModelConfig) -> None:
    for load in (Load(context=FULL + 1), Load(context=0), Load(context=1, concurrency=0)):
        with pytest.raises(BadInput):
            plan("small", small, gpus("h200", 1), load)
    with pytest.raises(BadInput):
        plan("small", small, gpus("h200", 0), Load(context=1))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    memory=st.integers(1_050_000_000, 1_250_000_000),
    count=st.integers(1, 6),
    host_memory=st.sampled_from([0, 100_000, 10**9]),
    context=st.integers(1, FULL),
    concurrency=st.integers(1, 4),
)
def test_every_plan_adds_up(
    small: ModelConfig, memory: int, count: int, host_memory: int, context: int, concurrency: int
) -> None:
    device = Device(name="toy", memory_bytes=memory, bandwidth_bytes_per_second=1e9)
    fleet = Fleet(device=device, count=count, host_memory_bytes=host_memory)
    found = planned(small, fleet, context, concurrency)
    check(found, small, fleet)
    assert planned(small, msgspec.structs.replace(fleet, count=count + 1), context, concurrency).max_context >= (
        found.max_context
    )


def ways(layers: int, devices: int) -> list[tuple[int, ...]]:
    """All bounds of contiguous ranges."""
    if devices == 1:
        return [(0, layers)]
    return [(*way, layers) for end in range(layers + 1) for way in ways(end, devices - 1)]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    layers=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    fixed=st.lists(st.integers(0, 20), min_size=1, max_size=3),
    expert=st.integers(1, 9),
    expert_count=st.integers(0, 12),
    capacity=st.integers(1, 70),
)
def test_a_placement_is_found_when_there_is_one(
    layers: list[int], fixed: list[int], expert: int, expert_count: int, capacity: int
) -> None:
    """Against all ways to cut the layers."""
    task = Task(layers=layers, fixed=fixed, expert=expert, expert_count=expert_count, capacity=capacity)

    def room(bounds: tuple[int, ...]) -> int:
        free = [capacity - load - sum(layers[a:b]) for load, (a, b) in zip(fixed, pairwise(bounds), strict=True)]
        return sum(space // expert for space in free) if min(free) >= 0 else -1

    best = max(room(bounds) for bounds in ways(len(layers), len(fixed)))
    placed = placement.place(task)
    assert (placed is not None) == (best >= expert_count)
    if placed is not None:
        held = zip(fixed, pairwise(placed.bounds), placed.experts, strict=True)
        assert all(load + sum(layers[a:b]) + n * expert <= capacity for load, (a, b), n in held)
        assert sum(placed.experts) == expert_count
