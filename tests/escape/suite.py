"""All cases, and the trial of one: on fresh ground without the sandbox, on fresh ground with it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.tools import folder
from services.tools.config import ToolsConfig
from tests.escape import host, kernel, network, paths, processes, resources
from tests.escape.attack import program, said_won
from tests.escape.case import Case, Ground, LeftOut


@dataclass(frozen=True)
class Outcome:
    case: Case
    without: bool = False
    within: bool = False
    left_out: str = ""

    @property
    def ok(self) -> bool:
        if self.case is CONTROL:
            return self.without and self.within
        return bool(self.left_out) or (self.without and not self.within)

    def line(self) -> str:
        words = {True: "got through", False: "stopped"}
        told = self.left_out or f"without: {words[self.without]}, with: {words[self.within]}"
        return f"{'ok   ' if self.ok else 'WRONG'}  {self.case.area}: {self.case.name}  ({told})"


def cases(quick: bool = False) -> list[Case]:
    every = [*host.CASES, *network.CASES, *processes.CASES, *kernel.CASES, *resources.CASES, *paths.CASES]
    return [case for case in every if case.quick or not quick]


def work(g: dict[str, Any]) -> None:
    """work in the workspace"""
    open(g["workspace"] + "/made", "w").write("made")
    print(open("made").read(), os.getpid(), len(os.listdir("/usr/bin")) > 0)
    print("the kernel said yes")


CONTROL = program("control", work, said_won)
"""What must succeed both times: a sandbox that stops everything stops no attack."""


async def tried(case: Case) -> Outcome:
    try:
        with fresh() as ground:
            without = await case.attempt(ground, False)
        with fresh() as ground:
            return Outcome(case, without, await case.attempt(ground, True))
    except LeftOut as reason:
        return Outcome(case, left_out=str(reason))


@contextmanager
def fresh() -> Iterator[Ground]:
    """As root the workspace belongs to the user of sandboxes, as in the service."""
    root = Path(tempfile.mkdtemp(prefix="moontide-escape-"))
    root.chmod(0o755)
    ground = Ground(root / "outside", root / "workspace")
    try:
        ground.outside.mkdir()
        ground.workspace.mkdir(mode=0o700)
        if os.geteuid() == 0:
            uid = ToolsConfig().sandbox_uid
            os.chown(ground.workspace, uid, uid)
        ground.canary.write_text(ground.token)
        yield ground
    finally:
        folder.empty(root)
        shutil.rmtree(root, ignore_errors=True)
