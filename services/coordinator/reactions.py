"""What follows from a happening: events for the ledger. One method per kind of happening.

Input: happenings. Output: events foreseen in the run's present moment, and messages stored as blobs before an event
points to them. It must not start anything: ``agent.py`` does, once the moment is recorded.
"""

import msgspec

from schemas.blobs import BlobRef
from schemas.chat import Message, Part, TextPart, ToolCall, Usage
from schemas.codec import encode
from schemas.failure import Failure
from schemas.runs import (
    ContextReduced,
    ContextStrategy,
    MessageAdded,
    ModelAnswered,
    ModelFailed,
    RunEnded,
    RunEvent,
    RunWaiting,
    ToolAnswered,
    ToolAsked,
)
from schemas.tools import ToolFinished
from services.coordinator import prompt, refusal
from services.coordinator.answer import Answer
from services.coordinator.desk import Desk
from services.coordinator.happenings import ModelRefused, ModelSaid
from services.coordinator.owned_run import OwnedRun
from services.coordinator.repetition import MAX_SAME_CALLS, signature
from services.coordinator.step import Limits, Refusals
from shared.ledger.machine import OpenCall

NO_OUTPUT = "(The tool returned nothing.)"


class Reactions:
    def __init__(self, desk: Desk, run: OwnedRun) -> None:
        self._desk = desk
        self._run = run
        self._failures = 0
        """Of the model's side, in a row."""
        self.refusals = Refusals()

    async def model_said(self, said: ModelSaid, limits: Limits) -> None:
        if not self._is_asked(said):
            return
        self._failures = 0
        self.refusals = Refusals()
        if said.summary:
            await self._summarised(said.answer, limits)
        else:
            await self._answered(said, limits)

    async def model_refused(self, refused: ModelRefused) -> None:
        if not self._is_asked(refused):
            return
        self._failures += 1
        failure = refused.error.to_failure()
        self._run.foresee(ModelFailed(step=refused.step, attempt=refused.attempt, failure=failure))
        match refusal.kind(refused.error, self._failures):
            case "too_long":
                self._too_long(refused, failure)
            case "permanent":
                self._permanent(refused, failure)
            case "passing" if self._run.state.status == "running":
                self._run.foresee(RunWaiting(failure=failure, until_unix_seconds=self._until(refused)))
            case _:
                pass  # paused: it is asked again when the run goes on

    async def tool_done(self, finished: ToolFinished) -> None:
        call = self._open(finished.call_id)
        if call is None:
            return
        content = finished.content or (TextPart(text=_words(finished.failure)),)
        event = ToolAnswered(
            step=call.step,
            call_id=call.call_id,
            message=await self._put(_tool_message(call.tool_call_id, content)),
            files=finished.files,
            failure=finished.failure,
            workspace=finished.workspace,
            session=finished.session,
            possibly_repeated=finished.possibly_repeated,
            seconds=finished.seconds,
        )
        self._run.foresee(event)

    async def answer_in_words(self, call_id: str, failure: Failure) -> None:
        """A call that was not run: the model reads why."""
        call = self._open(call_id)
        if call is not None:
            self._run.foresee(await self._in_words(call.step, call_id, call.tool_call_id, failure))

    async def note(self, words: str) -> None:
        """The coordinator says something to the model."""
        self._run.foresee(MessageAdded(message=await self._put(prompt.text("user", words)), author="coordinator"))

    def end(self, failure: Failure | None) -> None:
        answer = self._run.trail.answer
        said = answer.message if answer is not None and not answer.tool_calls else None
        self._run.foresee(
            RunEnded(
                outcome="finished" if failure is None else "failed",
                answer=said,
                failure=failure,
                files=self._run.trail.left,
            )
        )

    def _is_asked(self, happening: ModelSaid | ModelRefused) -> bool:
        """Late words of a call that was given up change nothing."""
        place = self._run.state.place
        same = place.asking and place.step == happening.step and place.summarising == happening.summary
        return same and (happening.summary or place.attempt == happening.attempt)

    async def _answered(self, said: ModelSaid, limits: Limits) -> None:
        finished = said.answer.finished
        assert finished is not None, "an answer is whole"
        calls = said.answer.calls(self._run.trail.call_count)
        message = said.answer.message(calls)
        self._run.foresee(
            ModelAnswered(
                step=said.step,
                message=await self._put(encode(message)),
                usage=finished.usage,
                finish_reason=finished.finish_reason,
                cost_usd=limits.price.of(finished.usage),
                seconds=said.seconds,
                tool_calls=len(calls),
                system_fingerprint=finished.system_fingerprint,
            )
        )
        for event in await self._calls(said.step, calls, limits):
            self._run.foresee(event)
        if not calls and finished.finish_reason == "length":
            await self.note(prompt.CUT_OFF)
        elif not calls and not message.content:
            await self.note(prompt.EMPTY)

    async def _calls(self, step: int, calls: tuple[ToolCall, ...], limits: Limits) -> list[RunEvent]:
        """Intents of all calls, and answers in words to those that cannot be run."""
        asked: list[RunEvent] = []
        answered: list[RunEvent] = []
        for index, call in enumerate(calls):
            call_id = f"{self._run.run_id}-{step}-{index}"
            arguments = await self._put(call.arguments.encode())
            failure = self._problem(call, arguments, limits)
            needs_approval = failure is None and limits.catalogue.needs_approval(call.name)
            asked.append(
                ToolAsked(
                    step=step,
                    call_id=call_id,
                    tool_call_id=call.id,
                    tool=call.name,
                    arguments=arguments,
                    needs_approval=needs_approval,
                )
            )
            if failure is not None:
                answered.append(await self._in_words(step, call_id, call.id, failure))
        return [*asked, *answered]

    def _problem(self, call: ToolCall, arguments: BlobRef, limits: Limits) -> Failure | None:
        problem = limits.catalogue.problem(call)
        if problem is not None:
            return Failure(code=problem[0], message=problem[1], status=400)
        trail = self._run.trail
        times = trail.repetition.times(signature(call.name, arguments, trail.workspace))
        if times < MAX_SAME_CALLS:
            return None
        return Failure(code="tool.repeated", message=prompt.repeated(times + 1), status=409)

    async def _in_words(self, step: int, call_id: str, tool_call_id: str, failure: Failure) -> ToolAnswered:
        message = await self._put(prompt.tool_words(tool_call_id, failure.message))
        return ToolAnswered(step=step, call_id=call_id, message=message, failure=failure)

    async def _summarised(self, answer: Answer, limits: Limits) -> None:
        finished = answer.finished
        assert finished is not None, "an answer is whole"
        words = "".join(part.text for part in answer.message(()).content if isinstance(part, TextPart))
        through = self._complete_step
        if not words.strip():
            self._run.foresee(_reduced("discard_all", through, finished.usage, limits.price.of(finished.usage)))
            return
        summary = await self._put(prompt.text("user", prompt.SUMMARY_HEADING + words))
        event = _reduced("summary", through, finished.usage, limits.price.of(finished.usage))
        self._run.foresee(msgspec.structs.replace(event, summary=summary))

    @property
    def _complete_step(self) -> int:
        place = self._run.state.place
        return place.step if place.answered else place.step - 1

    def _too_long(self, refused: ModelRefused, failure: Failure) -> None:
        self.refusals.too_long = True
        self.refusals.no_summary = self.refusals.no_summary or refused.summary

    def _permanent(self, refused: ModelRefused, failure: Failure) -> None:
        if refused.summary:
            self.refusals.no_summary = True
        else:
            self.refusals.permanent = failure

    def _until(self, refused: ModelRefused) -> float:
        config = self._desk.config
        wait = refusal.wait_seconds(refused.error, self._failures, config.wait_seconds, config.max_wait_seconds)
        return self._desk.clock.unix_seconds() + wait

    def _open(self, call_id: str) -> OpenCall | None:
        return next((call for call in self._run.state.open_calls if call.call_id == call_id), None)

    async def _put(self, data: bytes) -> BlobRef:
        return await self._desk.keep(data)


def _reduced(strategy: ContextStrategy, through: int, usage: Usage, cost_usd: float) -> ContextReduced:
    return ContextReduced(strategy=strategy, through_step=through, usage=usage, cost_usd=cost_usd)


def _tool_message(tool_call_id: str, content: tuple[Part, ...]) -> bytes:
    return encode(Message(role="tool", tool_call_id=tool_call_id, content=content))


def _words(failure: Failure | None) -> str:
    return NO_OUTPUT if failure is None else failure.message
