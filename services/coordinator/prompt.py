"""What an agent is told before its goal, and what the coordinator says to it on the way. Pure; our own words.

Input: a run's tools and origin. Output: encoded ``Message``s. Equal runs get equal bytes, so that prefixes are shared.
"""

from schemas.chat import Message, Role, TextPart
from schemas.codec import encode
from schemas.runs import RunSpec

RULES = """You are an agent. You work on the user's goal by yourself until it is reached, and think between tool calls.

- Look before you act: check with a tool what you can check, and do not guess what files, commands or pages contain.
- Calls that do not need each other's results may be made together in one turn. Calls that change the workspace are \
run in the order in which you make them; other calls of that turn see it as it was before.
- A tool that fails says why. Change something before you try again: the same call gives the same result.
- The workspace holds your files, and paths are relative to it. Variables of `python` stay until the run ends.
- Verify your work with tools before you say that it is done.
- When the goal is reached, or cannot be reached, answer without a tool call: that ends the run. Say what was done, \
what was found, and what is missing."""

NO_TOOLS = "You have no tools in this run: answer from what you know and were given."
REPOSITORY = (
    "The workspace is a git repository. What you change in it becomes a patch when the run ends: do not commit."
)

SUMMARY_REQUEST = (
    "The conversation is about to be shortened. Write down everything that is needed to go on without it: the goal, "
    "what was done and found (with exact names, paths, numbers and quotes), what failed and why, what is left to do. "
    "Do not call tools."
)
SUMMARY_HEADING = "The conversation so far was shortened. This is your own summary of it:\n\n"
RESTART = (
    "The conversation so far was dropped, since it had filled the context. The workspace is as you left it. Look at "
    "what is there, and go on with the goal."
)
HIDDEN_RESULT = "(This result was hidden to make room. Call the tool again if you need it.)"
CUT_OFF = "Your last answer was cut off by the length limit. Go on in smaller pieces."
EMPTY = "Your last answer was empty. Go on with the goal, or say in words that it is done."


def system(spec: RunSpec) -> bytes:
    parts = [RULES if spec.tools != () else NO_TOOLS]
    if spec.repository is not None:
        parts.append(REPOSITORY)
    return text("system", "\n\n".join(parts))


def text(role: Role, words: str) -> bytes:
    return encode(Message(role=role, content=(TextPart(text=words),)))


def tool_words(tool_call_id: str, words: str) -> bytes:
    """A tool's message in our own words."""
    return encode(Message(role="tool", tool_call_id=tool_call_id, content=(TextPart(text=words),)))


def denied(note: str) -> str:
    return "A person did not approve this call." + (f" They say: {note}" if note else "")


def repeated(times: int) -> str:
    return (
        f"This call was not run: you have made exactly this call {times} times, and nothing has changed since. "
        "Use what you know, try something else, or end with an answer."
    )


def little_left(steps: int) -> str:
    return f"Only {steps} more steps are left in this run. Finish what matters most, and answer."
