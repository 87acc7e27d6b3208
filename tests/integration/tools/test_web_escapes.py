"""Every escape of the web tools, with the guard off and on, on an internet of a child process's own."""

import asyncio
import json
import sys

import pytest

from tests.integration.process import ROOT


async def test_every_escape_succeeds_unguarded_and_fails_guarded() -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.escape.web"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await child.communicate()
    code, told = child.returncode, out.decode()
    if b"no internet of one's own" in errors:
        pytest.skip(errors.decode().strip())
    cases = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    total = cases.pop()
    assert [case["case"] for case in cases if case["on"]] == []
    assert [case["case"] for case in cases if not case["off"]] == []
    assert (code, total["cases"]) == (0, len(cases))
    assert len(cases) >= 60
