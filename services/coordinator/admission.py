"""What must hold before a run is accepted. Raises BadInput naming the field, or what the model's side says.

Input: a submitted run, what is served, what there is of tools. Output: nothing, or a refusal. It must not store
anything.
"""

import math
import re

from schemas.runs import RunSpec, RunSubmitted
from services.coordinator.catalogue import chosen, list_tools
from services.coordinator.desk import Desk
from services.coordinator.workspace import check_paths
from shared.errors import BadInput, NotFound

RUN_ID = re.compile(r"run-[0-9a-z]{26}")
MAX_STEPS = 100_000
MAX_SECONDS = 7 * 24 * 3600.0
"""Blobs live a day longer: nothing that a run needs expires while it works."""
MAX_MESSAGES = 2_000
MAX_FILES = 10_000
MAX_TOOLS = 128
MAX_TITLE_CHARACTERS = 200


async def check(desk: Desk, submitted: RunSubmitted) -> None:
    spec = submitted.spec
    check_spec(submitted)
    model = await desk.models.find(spec.model)
    if spec.tools != () and not model.calls_tools:
        raise BadInput("run.no_tools", f"model {model.name!r} cannot call tools", param="model")
    if spec.budget.max_cost_usd is not None and spec.model not in desk.prices:
        raise BadInput("run.no_price", "this model has no price here, so a cost cannot be kept to", param="budget")
    if spec.tools:
        chosen(await list_tools(desk.bus, submitted.context.principal), spec)
    if submitted.origin is not None:
        await _check_origin(desk, submitted)


async def _check_origin(desk: Desk, submitted: RunSubmitted) -> None:
    """A run of another tenant is not there."""
    origin = submitted.origin
    assert origin is not None
    missing = NotFound("run.not_found", f"there is no run {origin.run_id}", param="origin.run_id")
    if RUN_ID.fullmatch(origin.run_id) is None:
        raise missing
    first = (await desk.ledger.first(origin.run_id)).entry.events[0]
    if getattr(first, "context", submitted.context).principal.tenant != submitted.context.principal.tenant:
        raise missing
    await desk.ledger.past(origin)


def check_spec(submitted: RunSubmitted) -> None:
    """What can be said without asking anybody."""
    spec = submitted.spec
    if RUN_ID.fullmatch(submitted.run_id) is None:
        raise BadInput("run.bad_id", "a run id is 'run-' and 26 characters of 0-9 and a-z", param="run_id")
    if spec.kind != "agent":
        raise BadInput("run.kind", f"runs of kind {spec.kind!r} are not driven here yet", param="kind")
    if not spec.messages and submitted.origin is None:
        raise BadInput("run.no_goal", "a run needs a goal", param="messages")
    _check_sizes(spec)
    _check_budget(spec)
    check_paths(spec)
    if spec.repository is not None and spec.files:
        raise BadInput("run.two_workspaces", "a run begins with files or with a repository, not both", param="files")


def _check_sizes(spec: RunSpec) -> None:
    bounds = (
        ("messages", len(spec.messages), MAX_MESSAGES),
        ("files", len(spec.files), MAX_FILES),
        ("tools", len(spec.tools or ()), MAX_TOOLS),
        ("approvals", len(spec.approvals), MAX_TOOLS),
        ("title", len(spec.title), MAX_TITLE_CHARACTERS),
    )
    for name, size, limit in bounds:
        if size > limit:
            raise BadInput("run.too_large", f"{name} is longer than {limit}", param=name)


def _check_budget(spec: RunSpec) -> None:
    budget = spec.budget
    bounds: tuple[tuple[str, float | None, float], ...] = (
        ("max_steps", budget.max_steps, MAX_STEPS),
        ("max_tokens", budget.max_tokens, math.inf),
        ("max_seconds", budget.max_seconds, MAX_SECONDS),
        ("max_cost_usd", budget.max_cost_usd, math.inf),
    )
    for name, value, limit in bounds:
        if value is not None and not 0 < value <= limit:
            raise BadInput("run.budget", f"{name} must be above 0 and at most {limit:g}", param=f"budget.{name}")
