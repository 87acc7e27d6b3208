"""A plan in sentences that a person can check by hand: the sums behind the verdict, and behind the decode ceiling.

Input: a plan's numbers. Output: text. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from shared.model.decode import Holder, Routing, expert_seconds, one_token_seconds, round_seconds
from shared.model.fitting import Fleet, Load, Share

if TYPE_CHECKING:
    from shared.model.plan import Plan


def sentence(plan: Plan, fleet: Fleet) -> str:
    where = f"{plan.count} x {plan.device} ({gigabytes(fleet.device.memory_bytes)} each)"
    work = f"{plan.context:,} tokens x {plan.concurrency}"
    if plan.fits:
        most = f"the largest context is {plan.max_context:,}"
        return f"{plan.model} fits on {where} at {work}: {_fullest(plan, fleet)}{_beside(plan, fleet)}; {most}."
    return f"{plan.model} does not fit on {where} at {work}: {_missing(plan, fleet)}."


def _fullest(plan: Plan, fleet: Fleet) -> str:
    index, share = min(enumerate(plan.devices), key=lambda item: item[1].margin_bytes)
    return (
        f"the fullest device ({index}) holds {_sum(share)}, "
        f"which leaves {gigabytes(share.margin_bytes)} of {gigabytes(fleet.device.memory_bytes)}"
    )


def _sum(share: Share) -> str:
    parts = (share.weight_bytes, share.cache_bytes, share.activation_bytes)
    weights, cache, activations = map(gigabytes, parts)
    return f"{weights} weights + {cache} cache + {activations} activations = {gigabytes(sum(parts))}"


def _beside(plan: Plan, fleet: Fleet) -> str:
    if not plan.host_experts:
        return ""
    return (
        f", and host memory holds {gigabytes(plan.host_bytes)} of {gigabytes(fleet.host_memory_bytes)} "
        f"({len(plan.host_experts)} experts of each layer)"
    )


def _missing(plan: Plan, fleet: Fleet) -> str:
    fullest = min(plan.devices, key=lambda share: share.margin_bytes)
    if fullest.margin_bytes < 0 and not fleet.device.is_host:
        why = f"one device needs {_sum(fullest)} even with every expert elsewhere, {_short(fullest.margin_bytes)}"
        return why + _would(plan, "")
    if fullest.margin_bytes < 0:
        return f"the fullest needs {_sum(fullest)}, {_short(fullest.margin_bytes)}" + _would(plan, "")
    room = sum(share.weight_bytes for share in plan.devices)
    held = f"beside cache and activations the devices hold {gigabytes(room)} of {gigabytes(room + plan.host_bytes)}"
    host = f"{gigabytes(plan.host_bytes)} ({len(plan.host_experts)} experts of each layer) must live in host memory"
    short = f", {_short(plan.host_margin_bytes)}" if fleet.host_memory_bytes else ""
    return f"{held} weights, so that {host}{short}" + _would(plan, " on devices alone")


def _would(plan: Plan, how: str) -> str:
    wanted = f"; {plan.needed_count} x {plan.device} would do{how}" if plan.needed_count else ""
    shorter = f"; up to {plan.max_context:,} tokens fit" if plan.max_context else ""
    return wanted + shorter


def _short(margin: int) -> str:
    return f"{gigabytes(-margin)} more than there is"


def ceiling(holders: Sequence[Holder], routing: Routing, load: Load) -> str:
    """Which bytes bound decoding: those that one sequence waits for, or those that the busiest holder reads."""
    seconds = round_seconds(holders, routing, load.concurrency)
    rate = f"at most {load.concurrency / seconds:,.1f} tokens/s"
    if seconds > one_token_seconds(holders, routing) * (1 + 1e-9):  # a difference that is not only rounding
        return f"{_busiest(holders, routing, load.concurrency)}: {rate} together."
    bandwidth = holders[0].bandwidth
    trunk = gigabytes(sum(holder.trunk for holder in holders))
    cache = gigabytes(sum(holder.cache for holder in holders))
    together = " together" if load.concurrency > 1 else ""
    return (
        f"a token waits for {trunk} of layers and head and {cache} of cache at {load.context:,} tokens, read at "
        f"{bandwidth / 1e9:,.1f} GB/s{_slowest(holders, routing)}: {rate}{together}."
    )


def _slowest(holders: Sequence[Holder], routing: Routing) -> str:
    """What ``decode.expert_seconds`` counts: the share of the slowest holder, or one whole expert of each layer."""
    if not routing.layers:
        return ""
    slowest = max(holders, key=lambda holder: holder.expert_share / holder.bandwidth)
    share = routing.chosen * slowest.expert_share
    seconds = expert_seconds(holders, routing)
    if share * routing.layers * routing.expert_bytes / slowest.bandwidth < seconds * (1 - 1e-9):
        slowest, share = max(holders, key=lambda holder: (holder.expert_share > 0, holder.bandwidth)), 1.0
    where = "a device" if slowest.bandwidth == holders[0].bandwidth else "host memory"
    return (
        f", and, while the others read theirs, for {gigabytes(seconds * slowest.bandwidth)} of experts in {where} "
        f"({share:,.2f} of the {routing.chosen} in each of {routing.layers} layers) "
        f"at {slowest.bandwidth / 1e9:,.1f} GB/s"
    )


def _busiest(holders: Sequence[Holder], routing: Routing, sequences: int) -> str:
    experts = routing.layers * routing.touched(sequences) * routing.expert_bytes
    index, busiest = max(
        enumerate(holders),
        key=lambda item: (
            (item[1].trunk + sequences * item[1].cache + item[1].expert_share * experts) / item[1].bandwidth
        ),
    )
    return (
        f"for one token of each of {sequences} sequences, the busiest holder ({index}) reads "
        f"{gigabytes(busiest.trunk)} of layers, {gigabytes(busiest.expert_share * experts)} of experts "
        f"(each layer uses {routing.touched(sequences):.0f} of {routing.experts}) and "
        f"{gigabytes(sequences * busiest.cache)} of cache at {busiest.bandwidth / 1e9:,.1f} GB/s"
    )


def gigabytes(count: float) -> str:
    return f"{count / 1e9:,.2f} GB"
