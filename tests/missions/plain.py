"""Missions for measurements: work without end, one long tool call, a call that waits for a person. Pure."""

from tests.endpoints.conversation import Conversation, Script, Turn
from tests.missions.pier import call

ENDLESS, SLEEPY, ASKING, COUNTED, EFFECTS = "endless", "sleepy", "asking", "counted", "effects"
SLEEP_SECONDS = 120
BOOK = "book.txt"
ASKED = "list_files"
"""The tool that waits for a person in ``asking``."""


def goal(name: str, label: str, number: int = 1) -> str:
    return f"[mission {name} {number} {label}] Work."


def endless(seed: int) -> Script:
    """A small tool call each step, never the same one."""
    return lambda conversation: Turn(
        "Go on.", calls=(call("write_file", path="log.txt", content=f"step {conversation.step}"),)
    )


def sleepy(seed: int) -> Script:
    return lambda conversation: Turn("Wait.", calls=(call("shell", command=f"sleep {SLEEP_SECONDS}"),))


def asking(seed: int) -> Script:
    return lambda conversation: Turn("May I?", calls=(call(ASKED),))


def book(lines: int) -> str:
    """What the readers read: a line of about forty tokens each."""
    return "".join(
        f"line {number}: {'the tide comes and the tide goes ' * 4}{number}\n" for number in range(1, lines + 1)
    )


def effects(seed: int) -> Script:
    """One effect with an idempotency key, one without, and the end."""
    turns = (
        Turn("Note it.", calls=(call("harbour_note", text="noted"),)),
        Turn("Say it.", calls=(call("harbour_shout", text="said"),)),
        Turn("Done.", "Both happened."),
    )
    return lambda conversation: turns[min(conversation.step, len(turns)) - 1]


def counted(seed: int) -> Script:
    """Exactly ``seed`` steps that read a line each; the answer says how many results were shown."""

    def turn(conversation: Conversation) -> Turn:
        step = conversation.step
        if step < seed:
            return Turn("Go on.", calls=(call("read_file", path=BOOK, first_line=step, last_line=step),))
        results = sum(one.role == "tool" for one in conversation.said)
        return Turn("Done.", f"I was shown {results} results.")

    return turn
