"""What a scripted model reads and says, in whatever form it travels.

``Conversation`` is what a request shows; a ``Script`` makes the next ``Turn`` of it. A turn is a function of the
conversation alone: whoever asks again, after whatever death, hears the same. Must not know HTTP or token ids.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module

MISSION = re.compile(r"\[mission (?P<name>[a-z-]+) (?P<seed>\d+) (?P<label>[A-Za-z0-9_-]+)\]")
"""In the goal: which script answers, with which seed, and which run this is."""


@dataclass(frozen=True)
class Said:
    """One message. ``images``: bytes of the pictures that came with it, where the model is shown pictures."""

    role: str
    text: str
    images: tuple[bytes, ...] = ()
    media: int = 0
    """Pictures and videos, also those of which only the place is known."""


@dataclass(frozen=True)
class Call:
    name: str
    arguments: str
    """JSON."""


@dataclass(frozen=True)
class Turn:
    reasoning: str = ""
    content: str = ""
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True)
class Conversation:
    said: Sequence[Said]
    calls_before: int = 0
    """Tool calls in it: the next one has this number."""

    @property
    def step(self) -> int:
        """Which answer is wanted, counted from 1."""
        return 1 + sum(one.role == "assistant" for one in self.said)

    @property
    def mission(self) -> "Mission | None":
        for one in self.said:
            if one.role == "user" and "[mission " in one.text and (found := MISSION.search(one.text)):
                return Mission(found["name"], int(found["seed"]), found["label"])
        return None

    def results(self, step: int) -> tuple[Said, ...]:
        """What the tools called at ``step`` returned, in their order."""
        answers = [place for place, one in enumerate(self.said) if one.role == "assistant"]
        if not 1 <= step <= len(answers):
            return ()
        until = answers[step] if step < len(answers) else len(self.said)
        return tuple(one for one in self.said[answers[step - 1] + 1 : until] if one.role == "tool")

    @property
    def digest(self) -> str:
        whole = hashlib.sha256()
        for one in self.said:
            whole.update(f"{one.role}\0{one.text}\0{one.media}\0".encode())
        return whole.hexdigest()[:16]


@dataclass(frozen=True)
class Mission:
    name: str
    seed: int
    label: str


Script = Callable[[Conversation], Turn]


@dataclass(frozen=True)
class Scripts:
    """Scripts by the name in the goal."""

    known: dict[str, Callable[[int], Script]] = field(default_factory=dict)

    def turn(self, conversation: Conversation) -> Turn:
        mission = conversation.mission
        if mission is None or mission.name not in self.known:
            return Turn(content=f"You said {len(conversation.said)} things, and none is a mission.")
        return self.known[mission.name](mission.seed)(conversation)


def named(name: str) -> Scripts:
    """``module:attribute``."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)
