"""What an agent's next decision depends on beside the state of its ledger. Pure: a fold over the same events.

Input: each event once the ``RunState`` has taken it. Output: the length of the next prompt, calls that lead nowhere,
the workspace that calls of the step in work see, and how the last answer ended.
"""

from dataclasses import dataclass, field

from schemas.blobs import BlobRef
from schemas.runs import (
    ContextReduced,
    MessageAdded,
    ModelAnswered,
    ModelAsked,
    RunEvent,
    ToolAnswered,
    ToolAsked,
)
from schemas.tools import ToolFile
from services.coordinator.gauge import Gauge
from services.coordinator.repetition import FRUITLESS_CODES, Repetition, signature
from services.coordinator.transcript import Transcript
from shared.ledger.state import RunState


@dataclass
class Trail:
    state: RunState
    gauge: Gauge
    transcript: Transcript = field(init=False)
    repetition: Repetition = field(default_factory=Repetition)
    answer: ModelAnswered | None = None
    """The last one."""
    workspace: BlobRef | None = None
    session: BlobRef | None = None
    """As they were when the step in work had its answer: calls that only read see these."""
    expected: tuple[str, ...] = ()
    """Tools that the last answer called."""
    call_count: int = 0
    """Tool calls of this run: the ids that it makes up count them."""
    left: tuple[ToolFile, ...] = ()
    """Files of calls that no model made: what the run leaves."""
    _fruitful: bool = True

    def __post_init__(self) -> None:
        self.transcript = Transcript(self.state.conversation)

    @property
    def leads_nowhere(self) -> bool:
        return self.repetition.leads_nowhere(fruitful=self._fruitful)

    def take(self, event: RunEvent) -> None:
        match event:
            case ModelAsked(purpose="step", attempt=1):
                self._begin_step()
            case ModelAnswered():
                self._answered(event)
            case ToolAsked():
                self.expected = (*self.expected, event.tool)
                self.repetition.asked(signature(event.tool, event.arguments, self.workspace))
            case ToolAnswered():
                self._tool_answered(event)
            case MessageAdded():
                self.gauge.add(event.message.size_bytes)
                self._fruitful = self._fruitful or event.author == "person"
            case ContextReduced():
                self.gauge.reduced(self.state.conversation.shown())
                self.transcript.reduced()
            case _:
                pass
        self.transcript.grown()

    def _begin_step(self) -> None:
        if self.answer is not None:
            self.repetition.step_ended(fruitful=self._fruitful)
        self._fruitful = False

    def _answered(self, event: ModelAnswered) -> None:
        self.answer = event
        self.workspace, self.session = self.state.workspace, self.state.session
        self.call_count += event.tool_calls
        self.expected = ()
        self.gauge.add(event.message.size_bytes)
        self.gauge.counted(event.usage)

    def _tool_answered(self, event: ToolAnswered) -> None:
        code = event.failure.code if event.failure else ""
        self._fruitful = self._fruitful or code not in FRUITLESS_CODES
        self.gauge.add(event.message.size_bytes)
        if any(call.call_id == event.call_id and not call.tool_call_id for call in self.state.place.calls):
            self.left += event.files
