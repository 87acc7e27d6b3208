"""An attack as a program: a function's source, run bare or in a sandbox with the same facts, and judged afterwards.

The function gets one mapping: ``token`` only where it is no secret, ``canary``, ``workspace``, and what the ground was
prepared with. In the sandbox the workspace is at its place there.
"""

import asyncio
import inspect
import json
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from services.tools.beneath import MOUNT
from services.tools.capture import captured
from services.tools.confined import running
from services.tools.sandbox import Bounds, Sandbox, View
from shared.config import environment
from tests.escape.case import Case, Ground

SECONDS = 30.0
PATIENCE = 3
"""Times as long an attack without the sandbox may take: a slow machine must not look like a safe one."""
MIB = 1024 * 1024
BOUNDS = Bounds(
    memory_bytes=256 * MIB,
    processes=64,
    cpu_seconds=2.0,
    file_bytes=24 * MIB,
    temporary_bytes=32 * MIB,
    workspace_bytes=48 * MIB,
    workspace_files=500,
    output_bytes=4 * MIB,
)
PRELUDE = "import ctypes, json, os, signal, socket, sys, time\nfrom typing import Any\ng = json.loads(sys.argv[1])\n"


@dataclass(frozen=True)
class Trace:
    """What is left of an attack when it is over."""

    output: str
    seconds: float


Judge = Callable[[Ground, Trace], "bool | Awaitable[bool]"]
Prepare = Callable[[Ground], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def nothing(ground: Ground) -> AsyncIterator[None]:
    yield


def program(
    area: str,
    attack: Callable[[dict[str, Any]], None],
    won: Judge,
    prepare: Prepare = nothing,
    *,
    quick: bool = False,
) -> Case:
    """A case whose attack is run as a program; its docstring is its name."""
    source = f"{PRELUDE}{textwrap.dedent(inspect.getsource(attack))}\n{attack.__name__}(g)\n"

    async def attempt(ground: Ground, sandboxed: bool) -> bool:
        async with prepare(ground):
            trace = await (confined if sandboxed else bare)(source, ground)
            verdict = won(ground, trace)
            return verdict if isinstance(verdict, bool) else await verdict

    return Case(area, (attack.__doc__ or attack.__name__).strip(), attempt, quick)


async def bare(source: str, ground: Ground) -> Trace:
    """As this user, in this machine: what a service without a sandbox would do."""
    begun = asyncio.get_running_loop().time()
    process = await asyncio.create_subprocess_exec(
        *command(source, ground, str(ground.workspace)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment() | {"ESCAPE_SECRET": ground.token},
        cwd=ground.workspace,
        close_fds=False,
        start_new_session=True,
    )
    assert process.stdout is not None
    output = b""
    try:
        async with asyncio.timeout(PATIENCE * SECONDS):
            while piece := await process.stdout.read(65536):
                output += piece[: 16 * MIB - len(output)]
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    return Trace(output.decode("utf-8", "replace"), asyncio.get_running_loop().time() - begun)


async def confined(source: str, ground: Ground) -> Trace:
    begun = asyncio.get_running_loop().time()
    async with running(Sandbox(BOUNDS), command(source, ground, MOUNT), View(ground.workspace)) as one:
        done = await captured(one, SECONDS, BOUNDS.output_bytes)
    return Trace(done.text, asyncio.get_running_loop().time() - begun)


def command(source: str, ground: Ground, workspace: str) -> list[str]:
    facts = {"canary": str(ground.canary), "outside": str(ground.outside), "workspace": workspace, **ground.facts}
    return [sys.executable, "-S", "-c", source, json.dumps(facts)]


def told_the_secret(ground: Ground, trace: Trace) -> bool:
    return ground.token in trace.output


def changed_the_canary(ground: Ground, trace: Trace) -> bool:
    return not ground.canary.exists() or ground.canary.read_text() != ground.token


def said_won(ground: Ground, trace: Trace) -> bool:
    """For what leaves no trace but the kernel's yes."""
    return "the kernel said yes" in trace.output
