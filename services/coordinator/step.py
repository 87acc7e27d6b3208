"""The next decision of an agent, from what is in its ledger. Pure.

Input: the run's state and trail, its limits and the time. Output: one ``Decision``. What is in flight in this process
is not known here: the loop compares, and starts or waits for what a decision says. So an owner that has just taken a
run over decides as the one before would have.
"""

from dataclasses import dataclass, field

import msgspec

from schemas.failure import Failure
from schemas.runs import ContextStrategy
from services.coordinator import budget, context, prompt
from services.coordinator.budget import Spent
from services.coordinator.catalogue import PATCH, Catalogue
from services.coordinator.context import Window
from services.coordinator.prices import Price
from services.coordinator.trail import Trail
from shared.ledger.machine import OpenCall
from shared.ledger.state import RunState

APPROVAL = "run.approval"


@dataclass(frozen=True)
class Limits:
    """What a run is held to, beside its spec."""

    window: Window
    price: Price
    catalogue: Catalogue
    counts_tokens: bool = False
    """The model's side can be asked how long a prompt is."""


class Rest(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing to do until something happens, or until a time."""

    until_unix_seconds: float


class RunCalls(msgspec.Struct, frozen=True, kw_only=True):
    """These calls may run now; others wait for an approval, or for the one before them."""

    calls: tuple[OpenCall, ...]


class AskApproval(msgspec.Struct, frozen=True, kw_only=True):
    calls: tuple[OpenCall, ...]


class Resume(msgspec.Struct, frozen=True, kw_only=True):
    """What was waited for is there, or worth another try."""


class AskModel(msgspec.Struct, frozen=True, kw_only=True):
    step: int
    attempt: int
    notes: tuple[str, ...] = ()
    """The coordinator's words to the model before it."""


class AskSummary(msgspec.Struct, frozen=True, kw_only=True):
    pass


class AwaitModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model call is open: this owner's is in flight, an older owner's is asked again."""


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """How long the next prompt is has to be known better than by an estimate."""


class Reduce(msgspec.Struct, frozen=True, kw_only=True):
    strategy: ContextStrategy


class AskPatch(msgspec.Struct, frozen=True, kw_only=True):
    pass


class End(msgspec.Struct, frozen=True, kw_only=True):
    failure: Failure | None = None
    """None: finished, with the last answer."""


class Over(msgspec.Struct, frozen=True, kw_only=True):
    pass


Decision = (
    Rest
    | RunCalls
    | AskApproval
    | Resume
    | AskModel
    | AskSummary
    | AwaitModel
    | Measure
    | Reduce
    | AskPatch
    | End
    | Over
)


@dataclass
class Refusals:
    """What the model's side said of the request as it is: forgotten with every answer."""

    too_long: bool = False
    no_summary: bool = False
    """A summary could not be had: everything is dropped instead."""
    permanent: Failure | None = None


@dataclass(frozen=True)
class Situation:
    state: RunState
    trail: Trail
    limits: Limits
    now_unix_seconds: float
    refusals: Refusals = field(default_factory=Refusals)

    @property
    def deadline_unix_seconds(self) -> float:
        return self.state.created_unix_seconds + self.state.spec.budget.max_seconds

    @property
    def own_steps(self) -> int:
        origin = self.state.origin
        return self.state.step - (origin.step if origin is not None else 0)

    @property
    def spent(self) -> Spent:
        usage = self.state.usage
        tokens = usage.prompt_tokens + usage.completion_tokens
        return Spent(steps=self.own_steps, tokens=tokens, cost_usd=self.state.cost_usd)


def decide(now: Situation) -> Decision:
    state = now.state
    if state.ended:
        return Over()
    if (failure := _hopeless(now)) is not None:
        return End(failure=failure)
    if state.status == "paused":
        return Rest(until_unix_seconds=now.deadline_unix_seconds)
    if state.open_calls:
        return _with_calls(now)
    if state.status == "waiting":
        return _waiting(now)
    if state.place.asking:
        return AwaitModel()
    return _next_step(now) if state.place.answered else _again(now)


def _hopeless(now: Situation) -> Failure | None:
    if now.now_unix_seconds >= now.deadline_unix_seconds:
        return budget.late(now.state.spec.budget)
    return now.refusals.permanent


def _with_calls(now: Situation) -> Decision:
    waiting = tuple(call for call in now.state.open_calls if call.waits_for_approval)
    if waiting and now.state.status == "running":
        return AskApproval(calls=waiting)
    if not waiting and now.state.status == "waiting":
        return Resume()
    return RunCalls(calls=runnable(now.state.open_calls, now.limits.catalogue))


def runnable(calls: tuple[OpenCall, ...], catalogue: Catalogue) -> tuple[OpenCall, ...]:
    """Those that write the workspace one after the other, in the model's order; the others at once."""
    writers = [call for call in calls if _writes(call, catalogue)]
    blocked = {call.call_id for call in writers[1:]}
    return tuple(call for call in calls if not call.waits_for_approval and call.call_id not in blocked)


def _writes(call: OpenCall, catalogue: Catalogue) -> bool:
    return catalogue.writes(call.tool)


def _waiting(now: Situation) -> Decision:
    until = now.state.waiting_until_unix_seconds
    if until is None or now.now_unix_seconds >= until:
        return Resume()
    return Rest(until_unix_seconds=min(until, now.deadline_unix_seconds))


def _next_step(now: Situation) -> Decision:
    """At rest: the run ends, or the model is asked for the next step."""
    failure = _no_further(now)
    if failure is None and not _is_answered(now):
        return _ask(now, now.state.step + 1, 1)
    if _wants_patch(now):
        return AskPatch()
    return End(failure=failure)


def _again(now: Situation) -> Decision:
    """The last attempt is over without an answer."""
    failure = budget.exhausted(now.state.spec.budget, _before_this_step(now), _prompt_tokens(now), now.limits.price)
    if failure is not None:
        return End(failure=failure)
    return _ask(now, now.state.step, now.state.place.attempt + 1)


def _ask(now: Situation, step: int, attempt: int) -> Decision:
    """The model, or first a reduction of what it would have to read."""
    state, window = now.state, now.limits.window
    if _needs_measure(now):
        return Measure()
    full = now.refusals.too_long or context.is_full(state.conversation, _prompt_tokens(now), window)
    if not full:
        return AskModel(step=step, attempt=attempt, notes=_notes(now) if attempt == 1 else ())
    wanted = state.spec.context_strategy
    if now.refusals.no_summary:
        wanted = "discard_all"
    strategy = context.reduction(state.conversation, _prompt_tokens(now), window, wanted, step - 1)
    if strategy is None and not now.refusals.too_long:  # nothing is left to drop: an estimate alone ends no run
        return AskModel(step=step, attempt=attempt, notes=_notes(now) if attempt == 1 else ())
    if strategy is None:
        message = "the conversation does not fit the model's context, even without its past"
        return End(failure=Failure(code="run.context_full", message=message, status=409))
    return AskSummary() if strategy == "summary" else Reduce(strategy=strategy)


def _needs_measure(now: Situation) -> bool:
    near = context.is_near(_prompt_tokens(now), now.limits.window)
    return now.limits.counts_tokens and near and not now.trail.gauge.is_measured and not now.refusals.too_long


def _no_further(now: Situation) -> Failure | None:
    """Why no further step may begin."""
    if _is_answered(now):
        return None
    if now.trail.leads_nowhere:
        message = "the model keeps making calls that cannot be run, or the same call again and again"
        return Failure(code="run.no_progress", message=message, status=409)
    return budget.exhausted(now.state.spec.budget, now.spent, _prompt_tokens(now), now.limits.price)


def _is_answered(now: Situation) -> bool:
    """The model has said its last word, and nobody has said anything since."""
    conversation, answer = now.state.conversation, now.trail.answer
    if answer is None or answer.tool_calls or conversation.held:
        return False
    return bool(conversation.turns) and conversation.turns[-1].kind == "assistant"


def _wants_patch(now: Situation) -> bool:
    state = now.state
    if state.spec.repository is None or state.workspace is None:
        return False
    return not any(call.tool == PATCH for call in state.place.calls)


def _notes(now: Situation) -> tuple[str, ...]:
    left = now.state.spec.budget.max_steps - now.own_steps
    return (prompt.little_left(left),) if left == budget.FEW_STEPS and now.own_steps > 0 else ()


def _prompt_tokens(now: Situation) -> int:
    return now.trail.gauge.prompt_tokens


def _before_this_step(now: Situation) -> Spent:
    spent = now.spent
    return Spent(steps=spent.steps - 1, tokens=spent.tokens, cost_usd=spent.cost_usd)
