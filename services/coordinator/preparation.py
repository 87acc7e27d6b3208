"""What a run needs before its first decision by this owner: its model, its tools, the workspace it begins with.

Input: a run's spec. Output: ``Prepared``, or why not (yet). Done again by every owner: nothing of it is in the ledger.
"""

import logging

from schemas.codec import encode
from schemas.runs import RunSpec
from schemas.tools import ToolDeclaration
from services.coordinator import prompt
from services.coordinator.catalogue import Catalogue, chosen, list_tools
from services.coordinator.context import Window
from services.coordinator.desk import Desk
from services.coordinator.gauge import Gauge
from services.coordinator.happenings import NotPrepared, Prepared
from services.coordinator.step import Limits
from services.coordinator.trail import Trail
from services.coordinator.workspace import seed_tree
from shared.errors import BadInput, Internal, MoontideError, NotFound, Unavailable
from shared.ledger.state import RunState, begin

log = logging.getLogger("coordinator")

MISSING_RETRY_SECONDS = 1.0


async def prepare(desk: Desk, state: RunState) -> Prepared | NotPrepared:
    try:
        return await _prepared(desk, state)
    except MoontideError as error:
        return NotPrepared(error)
    except Exception:
        log.exception("run not prepared", extra={"run_id": state.run_id})
        return NotPrepared(Internal("internal", "an internal error occurred"))


async def _prepared(desk: Desk, state: RunState) -> Prepared:
    try:
        model = await desk.models.find(state.spec.model)
    except NotFound:
        model = desk.models.last_known(state.spec.model)  # asked all the same: the run waits where people see it
    listed = () if state.spec.tools == () else await list_tools(desk.bus, state.context.principal)
    catalogue = Catalogue(_chosen(listed, state.spec), state.spec.approvals)
    tools = await desk.blobs.inline_or_put(catalogue.json)
    window = Window(context_length=model.context_length, reserve=desk.config.output_reserve_tokens)
    price = desk.prices.of(state.spec.model)
    limits = Limits(window=window, price=price, catalogue=catalogue, counts_tokens=model.counts_tokens)
    return Prepared(limits, tools)


def _chosen(listed: tuple[ToolDeclaration, ...], spec: RunSpec) -> tuple[ToolDeclaration, ...]:
    """Raises Unavailable: every tool was there when the run was accepted, so one that is not is away for a while."""
    try:
        return chosen(listed, spec)
    except BadInput as error:
        raise Unavailable("run.tool_missing", error.message, retry_after_seconds=MISSING_RETRY_SECONDS) from error


def overhead_bytes(spec: RunSpec, catalogue: Catalogue) -> int:
    return len(prompt.system(spec)) + len(catalogue.json)


async def load(desk: Desk, run_id: str) -> tuple[RunState, Trail]:
    """A run as its ledger tells it. Raises NotFound, and Internal for a ledger that cannot be."""
    entries = [numbered async for numbered in desk.ledger.entries(run_id)]
    origin = begin(entries[0]).origin
    state = begin(entries[0], await desk.ledger.past(origin) if origin is not None else None)
    if state.workspace is None and (tree := seed_tree(state.spec)) is not None:
        state.workspace = await desk.keep(encode(tree))
    past_calls = sum(turn.kind == "tool" for turn in state.conversation.turns)
    trail = Trail(state, Gauge(state.conversation.shown()), call_count=past_calls)
    trail.workspace, trail.session = state.workspace, state.session
    for numbered in entries[1:]:
        state.apply(numbered, trail.take)
    return state, trail
