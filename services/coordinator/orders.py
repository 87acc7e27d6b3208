"""What people tell a run, put into effect by its owner: steer, pause, resume, stop, approve.

Input: a command that nobody has taken. Output: events that carry its id, foreseen in the run's present moment. One that
does not fit the run's state changes nothing. It must not know where commands come from.
"""

from typing import assert_never

from schemas.failure import Failure
from schemas.runs import (
    DecideTool,
    MessageAdded,
    ModelFailed,
    PauseRun,
    ResumeRun,
    RunCommand,
    RunEnded,
    RunPaused,
    RunResumed,
    SteerRun,
    StopRun,
    ToolDecided,
)
from services.coordinator import prompt
from services.coordinator.effects import Effects
from services.coordinator.owned_run import OwnedRun
from services.coordinator.reactions import Reactions

INTERRUPTED = Failure(code="run.interrupted", message="the call was given up for a message", status=499)


class Orders:
    def __init__(self, run: OwnedRun, effects: Effects, reactions: Reactions) -> None:
        self._run = run
        self._effects = effects
        self._reactions = reactions

    async def obey(self, command: RunCommand) -> None:
        if self._run.state.ended or command.command_id in self._run.state.taken_commands:
            return
        match command.body:
            case SteerRun() as steer:
                self._steer(steer, command.command_id)
            case PauseRun():
                if self._run.state.status in ("running", "waiting"):
                    self._run.foresee(RunPaused(command_id=command.command_id))
            case ResumeRun():
                if self._run.state.status in ("paused", "waiting"):
                    self._run.foresee(RunResumed(command_id=command.command_id))
            case StopRun(reason=reason):
                self._stop(reason, command.command_id)
            case DecideTool() as decision:
                await self._decide(decision, command.command_id)
            case _:
                assert_never(command.body)

    def _steer(self, steer: SteerRun, command_id: str) -> None:
        place = self._run.state.place
        if steer.interrupt and place.asking and not place.summarising:
            self._effects.forget_model()
            self._run.foresee(ModelFailed(step=place.step, attempt=place.attempt, failure=INTERRUPTED))
        self._run.foresee(MessageAdded(message=steer.message, author="person", command_id=command_id))

    def _stop(self, reason: str, command_id: str) -> None:
        failure = Failure(code="run.stopped", message=reason or "a person stopped the run", status=499)
        self._run.foresee(RunEnded(outcome="cancelled", failure=failure, command_id=command_id))

    async def _decide(self, decision: DecideTool, command_id: str) -> None:
        call = next((call for call in self._run.state.open_calls if call.call_id == decision.call_id), None)
        if call is None or not call.waits_for_approval:
            return
        self._run.foresee(
            ToolDecided(call_id=call.call_id, approved=decision.approved, note=decision.note, command_id=command_id)
        )
        if not decision.approved:
            failure = Failure(code="tool.denied", message=prompt.denied(decision.note), status=403)
            await self._reactions.answer_in_words(call.call_id, failure)
