"""A plan as a person reads it, and as Helm values.

Input: ``Plan``. Output: a table and sentences on stdout; YAML text. Computes nothing.
"""

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from schemas.names import slug
from shared.model.plan import Plan
from shared.model.verdict import gigabytes


def show(plan: Plan) -> None:
    console = Console(highlight=False)
    table = Table("device", "layers", "experts", "weights", "cache", "activations", "free")
    for column in table.columns[3:]:
        column.justify = "right"
    for index, share in enumerate(plan.devices):
        sizes = (share.weight_bytes, share.cache_bytes, share.activation_bytes, share.margin_bytes)
        row = (f"{plan.device} {index}", span(share.layers), span(share.experts), *map(gigabytes, sizes))
        table.add_row(*row, style="red" if share.margin_bytes < 0 else None)
    if plan.host_experts:
        free = gigabytes(plan.host_margin_bytes)
        style = "red" if plan.host_margin_bytes < 0 else None
        table.add_row("host", "", span(plan.host_experts), gigabytes(plan.host_bytes), "", "", free, style=style)
    console.print(table)
    console.print(Text(plan.sentence, style="green" if plan.fits else "red"), soft_wrap=True)
    console.print(Text(f"Decode ceiling: {plan.ceiling_sentence}"), soft_wrap=True)
    console.print(Text(_limits(plan)), soft_wrap=True)


def _limits(plan: Plan) -> str:
    return (
        f"Largest context at concurrency {plan.concurrency}: {plan.max_context:,} tokens. "
        f"Largest concurrency at {plan.context:,} tokens: {plan.max_concurrency:,}."
    )


def span(numbers: Sequence[int]) -> str:
    """A contiguous range as ``first-last``."""
    return f"{numbers[0]}-{numbers[-1]}" if numbers else "none"


def helm_values(plan: Plan, slice_tokens: int) -> str:
    """YAML; maps keyed by model and shard, so that ``--set`` reaches every value. Strings are quoted as in JSON."""
    lines = [
        f"# {plan.sentence}",
        f"# Decode ceiling: {plan.ceiling_sentence}",
        "models:",
        f"  {slug(plan.model)}:",
        f"    name: {json.dumps(plan.model)}",
        f"    device: {json.dumps(plan.device)}",
        f"    contextTokens: {plan.context}",
        f"    maxSequences: {plan.concurrency}",
        f"    prefillSliceTokens: {slice_tokens}",
        f"    hostMemoryBytes: {plan.host_bytes}",
        f"    hostExperts: {json.dumps(span(plan.host_experts))}",
        "    shards:",
    ]
    for index, share in enumerate(plan.devices):
        lines += [
            f"      shard{index}:",
            f"        layers: {json.dumps(span(share.layers))}",
            f"        experts: {json.dumps(span(share.experts))}",
            f"        memoryBytes: {share.weight_bytes + share.cache_bytes + share.activation_bytes}",
        ]
    return "\n".join(lines) + "\n"
