"""Runs ``page`` on one page in a child process, within bounds.

Input: HTML. Output: title and text, or BadInput(``fetch.unreadable``). Must not know where the page came from.
"""

import asyncio
import contextlib
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

from shared.config import environment
from shared.errors import BadInput

READ_SECONDS = 30.0
ROOT = Path(__file__).resolve().parents[2]
KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH")
"""A process that reads hostile files inherits no settings and no credentials."""


async def read_page(html: bytes, charset: str | None, url: str) -> tuple[str, str]:
    """(title, text). Cancelling ends the child."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.tools.page", charset or "", url),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env=_environment(),
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(READ_SECONDS):
            out, _ = await process.communicate(html)
    except TimeoutError:
        raise _unreadable() from None
    finally:
        await asyncio.shield(_end(process))
    if process.returncode != 0:
        raise _unreadable()
    title, _, text = out.decode("utf-8", "replace").partition("\n\n")
    return title, text


def _environment() -> dict[str, str]:
    inherited = environment()
    kept = {name: value for name, value in inherited.items() if name in KEPT}
    return kept | {"PYTHONPATH": ":".join(filter(None, (str(ROOT), kept.get("PYTHONPATH")))), "PYTHONSAFEPATH": "1"}


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def _unreadable() -> BadInput:
    return BadInput("fetch.unreadable", "the page could not be turned into text: it is damaged or built to be heavy")
