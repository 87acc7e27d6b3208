"""``make escape``: every case without the sandbox and with it; a table, and one JSON line last."""

import argparse
import asyncio
import json
import sys
import time

from tests.escape.case import Case, Ground
from tests.escape.suite import CONTROL, Outcome, cases, tried

WEB = "tests.escape.web"


def main() -> int:
    parser = argparse.ArgumentParser(prog="escape")
    parser.add_argument("--only", default="", help="cases whose area or name holds this")
    parser.add_argument("--quick", action="store_true", help="the short version")
    arguments = parser.parse_args()
    begun = time.monotonic()
    outcomes = asyncio.run(run(arguments.only, arguments.quick))
    summary = summed(outcomes) | {"seconds": round(time.monotonic() - begun, 1)}
    print(json.dumps(summary))
    return 0 if summary["ok"] else 1


async def run(only: str, quick: bool) -> list[Outcome]:
    control = await tried(CONTROL)
    if not control.ok:
        sys.exit(f"no attack tells anything here: {control.line()}")
    outcomes = []
    for case in cases(quick):
        if only in case.area or only in case.name:
            outcomes.append(await tried(case))
            print(outcomes[-1].line(), file=sys.stderr, flush=True)
    return [*outcomes, *(await of_the_web(only) if not quick else [])]


async def of_the_web(only: str) -> list[Outcome]:
    """Those of the web tools have an internet of their own, and so a process of their own."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", WEB, stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    outcomes = []
    async for line in child.stdout:
        told = json.loads(line)
        if "case" in told and (only in "web" or only in told["case"]):
            outcomes.append(Outcome(Case("web", told["case"], never), without=told["off"], within=told["on"]))
            print(outcomes[-1].line(), file=sys.stderr, flush=True)
    if await child.wait() != 0 and not outcomes:
        return [Outcome(Case("web", "all of them", never), left_out="no internet of one's own can be made here")]
    return outcomes


async def never(ground: Ground, sandboxed: bool) -> bool:
    raise AssertionError("tried by its own process")


def summed(outcomes: list[Outcome]) -> dict[str, object]:
    tried_here = [outcome for outcome in outcomes if not outcome.left_out]
    return {
        "cases": len(tried_here),
        "succeeded_without": sum(outcome.without for outcome in tried_here),
        "succeeded_within": sum(outcome.within for outcome in tried_here),
        "left_out": {f"{one.case.area}: {one.case.name}": one.left_out for one in outcomes if one.left_out},
        "wrong": [f"{one.case.area}: {one.case.name}" for one in outcomes if not one.ok],
        "ok": bool(tried_here) and all(outcome.ok for outcome in outcomes),
    }


if __name__ == "__main__":
    sys.exit(main())
