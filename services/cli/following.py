"""Following a run to its end: past events, then what happens, wherever the connection breaks.

Input: a run's id. Output: the run as it ended, after it was told. Knows nothing of how it was begun.
"""

from collections.abc import Callable

from services.cli.narration import Narration
from services.cli.run_client import Event, Run, RunClient
from services.cli.terminal import RunVoice

DONE, FAILED = 0, 1


async def follow(client: RunClient, run_id: str, tell: Callable[[Event, bytes], None]) -> Run:
    """``tell`` hears each event and its JSON. Raises NotFound, and Unavailable when the gateway is gone for long."""
    async for event, data in client.follow(run_id):
        cut = event.message is not None and event.message.truncated and event.type == "model.answered"
        tell(await client.event(run_id, event.id) if cut else event, data)
    return await client.run(run_id)


def narrate(run_id: str) -> Callable[[Event, bytes], None]:
    narration = Narration(run_id, RunVoice())
    return lambda event, data: narration.hear(event)


def code_of(run: Run) -> int:
    """0: it finished, and no budget cut it short."""
    return DONE if run.status == "finished" and run.error is None else FAILED
