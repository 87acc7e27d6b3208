"""What can happen to a run while its owner waits. Plain data, put into the run's inbox by whoever notices.

It must not know what follows from it.
"""

from dataclasses import dataclass

from schemas.blobs import Payload
from schemas.runs import RunCommand
from schemas.tools import ToolFinished
from services.coordinator.answer import Answer
from services.coordinator.step import Limits
from shared.errors import MoontideError


@dataclass(frozen=True)
class Prepared:
    """Model and tools of the run are known."""

    limits: Limits
    tools: Payload
    """As the model is shown them."""


@dataclass(frozen=True)
class NotPrepared:
    error: MoontideError


@dataclass(frozen=True)
class ModelSaid:
    step: int
    attempt: int
    answer: Answer
    seconds: float
    summary: bool = False


@dataclass(frozen=True)
class ModelRefused:
    """Or failed, or nobody was there."""

    step: int
    attempt: int
    error: MoontideError
    summary: bool = False


@dataclass(frozen=True)
class Measured:
    """The next prompt's length; None when the model's side could not be asked."""

    message_count: int
    """Of the conversation that was counted: later words make it old."""
    prompt_tokens: int | None


@dataclass(frozen=True)
class ToolDone:
    finished: ToolFinished


@dataclass(frozen=True)
class ToolBroke:
    """The call could not be handed to anybody."""

    call_id: str
    error: MoontideError


@dataclass(frozen=True)
class Commanded:
    command: RunCommand


@dataclass(frozen=True)
class Draining:
    """This process stops: the run goes to another owner at its next clean point."""


Happening = Prepared | NotPrepared | ModelSaid | ModelRefused | Measured | ToolDone | ToolBroke | Commanded | Draining
