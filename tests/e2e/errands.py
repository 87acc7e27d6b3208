"""What the scripted model of these tests can be sent for, and the endpoint that answers as it.

Scripts are pure: a turn is a function of the conversation.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from tests.endpoints.agent import AgentEndpoint, Control, application
from tests.endpoints.conversation import Conversation, Script, Scripts, Turn
from tests.missions.pier import call
from tests.missions.scripts import SCRIPTS as MISSIONS

ERRAND, MEND = "errand", "mend"
NOTE, TEXT = "note.txt", "The tide is out."
FILE, WRONG, RIGHT = "tide.txt", "ebb", "flood"


def goal(name: str, label: str) -> str:
    return f"[mission {name} 1 {label}] Go."


def errand(seed: int) -> Script:
    """Two calls at once, then one that reads what the first wrote, then an answer that quotes it."""

    def turn(conversation: Conversation) -> Turn:
        if conversation.step == 1:
            calls = (call("write_file", path=NOTE, content=TEXT), call("list_files"))
            return Turn("I write a note.", "I begin.", calls)
        if conversation.step == 2:
            return Turn("I read it again.", calls=(call("read_file", path=NOTE),))
        read = " ".join(one.text for one in conversation.results(2))
        return Turn("Done.", f"The note says: {TEXT if TEXT in read else read}")

    return turn


def mend(seed: int) -> Script:
    """One edit in a repository."""

    def turn(conversation: Conversation) -> Turn:
        if conversation.step == 1:
            return Turn("I mend it.", calls=(call("edit_file", path=FILE, old=WRONG, new=RIGHT),))
        return Turn("Done.", "It is mended.")

    return turn


@asynccontextmanager
async def serving(seconds: float = 0.0) -> AsyncIterator[tuple[str, AgentEndpoint]]:
    """(URL, endpoint). ``seconds``: from a request to the end of its answer."""
    scripts = Scripts({**MISSIONS.known, ERRAND: errand, MEND: mend})
    endpoint = AgentEndpoint(scripts, None, Control(seconds=seconds))
    runner = web.AppRunner(application(endpoint), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", endpoint
    finally:
        await runner.cleanup()
