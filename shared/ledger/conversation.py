"""The conversation of a run as references to its messages, in the order in which the model reads them.

In: events that carry messages. Out: turns, and what a request shows of them after the context was reduced. Bytes of
messages are not known here: what is hidden or left out is decided by kind and step.
"""

from typing import Literal

import msgspec

from schemas.blobs import BlobRef
from schemas.runs import ContextReduced, MessageAdded, ModelAnswered, ToolAnswered

TurnKind = Literal["given", "assistant", "tool", "person", "coordinator", "summary"]
"""given: the conversation that the run began with. summary: stands for the turns before it."""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    message: BlobRef
    kind: TurnKind
    step: int
    """0 for what was given; what is said between two steps belongs to the next one."""
    tool_call_id: str = ""
    """As the model called the tool whose result this is."""
    hidden: bool = False
    """A tool's result of which a request shows only that there was one."""


class Conversation(msgspec.Struct, kw_only=True):
    """Every turn is kept; reductions only change what ``shown`` answers."""

    turns: list[Turn] = msgspec.field(default_factory=list)
    results: dict[str, Turn] = msgspec.field(default_factory=dict)
    """Of the step that is open, by call id."""
    held: list[Turn] = msgspec.field(default_factory=list)
    """Said while a step is open: it follows when the step is complete, or is asked again."""
    reductions: list[ContextReduced] = msgspec.field(default_factory=list)
    """The last ones that count: hidden results, and what replaced the past."""

    def given(self, messages: tuple[BlobRef, ...], step: int) -> None:
        kind: TurnKind = "person" if step else "given"
        self.turns += [Turn(message=message, kind=kind, step=step) for message in messages]

    def asked(self) -> None:
        """The model is asked, or to be asked again: what was said meanwhile is part of it."""
        self.turns += self.held
        self.held.clear()

    def answered(self, event: ModelAnswered) -> None:
        self.turns.append(Turn(message=event.message, kind="assistant", step=event.step))

    def tool_answered(self, event: ToolAnswered, tool_call_id: str) -> None:
        """A call that the model did not make (its id is empty) is none of its business."""
        if tool_call_id:
            turn = Turn(message=event.message, kind="tool", step=event.step, tool_call_id=tool_call_id)
            self.results[event.call_id] = turn

    def added(self, event: MessageAdded, step: int) -> None:
        self.held.append(Turn(message=event.message, kind=event.author, step=step))

    def rest(self, call_ids: list[str]) -> None:
        """The step is complete: its results in the model's order, then what was said meanwhile."""
        self.turns += [self.results[call_id] for call_id in call_ids if call_id in self.results]
        self.results.clear()
        self.asked()

    def reduced(self, event: ContextReduced) -> None:
        """A later reduction of the same sort covers the ones before."""
        hides = event.strategy == "hide_tool_results"
        self.reductions = [known for known in self.reductions if (known.strategy == "hide_tool_results") != hides] + [
            event
        ]

    def shown(self) -> list[Turn]:
        """What a request shows. Given turns always; results up to the hidden step as hidden; of the steps that were
        summarised or discarded nothing but a summary, if there is one, and, when discarded, what people said."""
        replaced = next((known for known in self.reductions if known.strategy != "hide_tool_results"), None)
        hidden = max(
            (known.through_step for known in self.reductions if known.strategy == "hide_tool_results"), default=0
        )
        turns = [turn for turn in self.turns if replaced is None or _stays(turn, replaced)]
        if replaced is not None and replaced.summary is not None:
            place = next((index for index, turn in enumerate(turns) if turn.step > 0), len(turns))
            summary = Turn(message=replaced.summary, kind="summary", step=replaced.through_step)
            turns.insert(place, summary)
        return [
            msgspec.structs.replace(turn, hidden=True) if turn.kind == "tool" and turn.step <= hidden else turn
            for turn in turns
        ]

    def forked(self) -> "Conversation":
        """A copy that grows by itself."""
        return Conversation(turns=list(self.turns), reductions=list(self.reductions))


def _stays(turn: Turn, replaced: ContextReduced) -> bool:
    if turn.step > replaced.through_step or turn.kind == "given":
        return True
    return replaced.strategy == "discard_all" and turn.kind == "person"
