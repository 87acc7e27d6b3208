"""What follows from a decision: events for the ledger, before anything is done. One case per kind of decision.

Input: decisions. Output: events foreseen in the run's present moment. It must not start anything: ``agent.py`` does,
once the moment is recorded.
"""

from schemas.failure import Failure
from schemas.runs import ContextReduced, ContextStrategy, ModelAsked, RunResumed, RunWaiting, ToolAsked
from services.coordinator import context
from services.coordinator.catalogue import PATCH
from services.coordinator.desk import Desk
from services.coordinator.owned_run import OwnedRun
from services.coordinator.reactions import Reactions
from services.coordinator.step import (
    APPROVAL,
    AskApproval,
    AskModel,
    AskPatch,
    AskSummary,
    AwaitModel,
    Decision,
    End,
    Reduce,
    Resume,
)
from shared.ledger.machine import OpenCall


class Intents:
    def __init__(self, desk: Desk, run: OwnedRun, reactions: Reactions) -> None:
        self._desk = desk
        self._run = run
        self._reactions = reactions

    async def foresee(self, decision: Decision) -> bool:
        """Whether the decision became an event, so that a further one may follow in the same moment."""
        match decision:
            case AskModel(step=step, attempt=attempt, notes=notes):
                await self._ask_model(step, attempt, notes)
            case AskSummary():
                self._run.foresee(self._asked(summary=True))
            case AwaitModel() if self._run.state.place.asked_term != self._run.term:
                self._run.foresee(self._asked(summary=self._run.state.place.summarising))
            case Resume():
                self._run.foresee(RunResumed())
            case AskApproval(calls=calls):
                self._wait_for_approval(calls)
            case Reduce(strategy=strategy):
                self._reduce(strategy)
            case AskPatch():
                await self._ask_patch()
            case End(failure=failure):
                self._reactions.end(failure)
            case _:
                return False
        return True

    async def _ask_model(self, step: int, attempt: int, notes: tuple[str, ...]) -> None:
        for words in notes:
            await self._reactions.note(words)
        self._run.foresee(ModelAsked(step=step, attempt=attempt, message_count=self._message_count))

    def _asked(self, *, summary: bool) -> ModelAsked:
        """Of the step in work: a call that the owner before left open, or a summary."""
        place = self._run.state.place
        attempt = 1 if summary else place.attempt + 1
        purpose = "summary" if summary else "step"
        return ModelAsked(step=place.step, attempt=attempt, message_count=self._message_count, purpose=purpose)

    def _wait_for_approval(self, calls: tuple[OpenCall, ...]) -> None:
        named = ", ".join(dict.fromkeys(call.tool for call in calls))
        failure = Failure(code=APPROVAL, message=f"a person has to approve a call of {named}", status=202)
        self._run.foresee(RunWaiting(failure=failure))

    def _reduce(self, strategy: ContextStrategy) -> None:
        place = self._run.state.place
        complete = place.step if place.answered else place.step - 1
        self._run.foresee(ContextReduced(strategy=strategy, through_step=context.through_step(strategy, complete)))
        self._reactions.refusals.too_long = False

    async def _ask_patch(self) -> None:
        place = self._run.state.place
        self._run.foresee(
            ToolAsked(
                step=place.step,
                call_id=f"{self._run.run_id}-{place.step}-{len(place.calls)}",
                tool_call_id="",
                tool=PATCH,
                arguments=await self._desk.keep(b"{}"),
            )
        )

    @property
    def _message_count(self) -> int:
        return len(self._run.state.conversation.turns)
