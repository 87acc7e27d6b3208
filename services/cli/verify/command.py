"""`moontide verify URL`: runs the checks one after the other, shows progress on stderr and the scorecard on stdout.

Input: an endpoint, a key file. Output: the scorecard. The key is in no output: commands name a variable instead.
"""

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from services.cli import session, terminal
from services.cli.config import DataConfig
from services.cli.verify import answers, table
from services.cli.verify.exchange import KEY_VARIABLE, curl
from services.cli.verify.judgement import Defect, NotOffered, Refused, Verdict
from services.cli.verify.key import Key
from services.cli.verify.probe import Probe, Target
from services.cli.verify.scorecard import Outcome, Scorecard, Status, figures
from services.cli.verify.table import CHECKS, Check
from shared.errors import NotFound, Unavailable

CHECK_SECONDS = 900.0
SHOWN_COMMANDS = 5
MAX_CONCURRENCY = 256
BAD_USE = 2
MARKS: dict[Status, tuple[str, str]] = {
    "passed": ("ok", "green"),
    "failed": ("FAILED", "bold red"),
    "not_offered": ("not offered", "yellow"),
}


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("verify", help="a scorecard of any OpenAI-compatible endpoint")
    parser.add_argument("url", nargs="?", type=endpoint_url, metavar="URL", help="as clients use it, with /v1")
    parser.add_argument("--model", help="default: the first that the endpoint lists")
    parser.add_argument("--key-file", type=Path, metavar="F", help="holds the endpoint's key, one line")
    parser.add_argument("--only", nargs="+", action="extend", default=[], metavar="CHECK", help="checks or topics")
    parser.add_argument("--concurrency", type=levels, default=(1, 8, 64), metavar="N,…", help="default: 1,8,64")
    parser.add_argument("--extra", type=json_object, default={}, metavar="JSON", help="fields of every chat body")
    parser.add_argument("--strict", action="store_true", help="what is not offered is a defect")
    parser.add_argument("--list", action="store_true", help="only list the checks")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def endpoint_url(text: str) -> str:
    """Raises ValueError, which argparse turns into words; a password in a URL would be printed."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError(text)
    return text.rstrip("/")


def levels(text: str) -> tuple[int, ...]:
    found = tuple(int(part) for part in text.split(","))
    if not all(1 <= level <= MAX_CONCURRENCY for level in found):
        raise ValueError(text)
    return found


def json_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(text)
    return value


def run(arguments: argparse.Namespace, data: DataConfig) -> int:
    """0 full marks, 1 defects, 2 bad use."""
    try:
        checks = table.chosen(arguments.only)
        key = Key.read(arguments.key_file)
    except ValueError as error:
        terminal.report(str(error))
        return BAD_USE
    if arguments.list:
        return _list(checks, as_json=arguments.json)
    if arguments.url is None:
        terminal.report("verify: which URL? For example: moontide verify http://127.0.0.1:8080/v1")
        return BAD_USE
    target = Target(arguments.url, arguments.model or "", key, arguments.concurrency, arguments.extra)
    return session.run(_run(target, checks, arguments))


async def _run(target: Target, checks: Sequence[Check], arguments: argparse.Namespace) -> int:
    card = await judge(target, checks, strict=arguments.strict)
    if arguments.json:
        terminal.say_json(card.to_json())
    else:
        show(card)
    return card.exit_code


async def judge(target: Target, checks: Sequence[Check] = CHECKS, *, strict: bool = False) -> Scorecard:
    """Run ``checks`` in order. Raises Unavailable when nobody is there, NotFound when there is no model to ask."""
    async with Probe.open(target) as probe:
        probe.target = target = await _with_model(probe)
        await probe.settle()
        outcomes = []
        for number, check in enumerate(checks, 1):
            outcome = await _outcome(check, probe, strict=strict)
            terminal.report(f"{number}/{len(checks)} {check.name}: {outcome.status.replace('_', ' ')}")
            outcomes.append(outcome)
    return Scorecard(target.url, target.model, outcomes)


async def _with_model(probe: Probe) -> Target:
    """The target, with the first listed model where none was named."""
    listed = await probe.exchange(answers.MODELS)
    if listed.failure and not listed.status:
        raise Unavailable("verify.unreachable", f"{probe.target.url}: {probe.target.key.redact(listed.failure)}")
    ids = answers.model_ids(listed.json())
    model = probe.target.model or next(iter(ids), "")
    if not model:
        text = f"{listed.url} (HTTP {listed.status}) lists no model: name one with --model"
        raise NotFound("verify.no_model", text)
    return replace(probe.target, model=model, random_weights=answers.random_weights(listed.json(), model))


async def _outcome(check: Check, probe: Probe, *, strict: bool) -> Outcome:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            measured = await check.run(probe)
    except TimeoutError:
        return _judged(check, probe, Defect(f"not done within {CHECK_SECONDS:g} s"), strict=strict)
    except Verdict as verdict:
        return _judged(check, probe, verdict, strict=strict)
    return Outcome(check.name, check.promise, check.severity, "passed", measured=measured)


def _judged(check: Check, probe: Probe, verdict: Verdict, *, strict: bool) -> Outcome:
    is_open = isinstance(verdict, NotOffered) or (isinstance(verdict, Refused) and check.optional)
    key = probe.target.key
    commands = [curl(exchange, has_key=bool(key)) for exchange in verdict.exchanges]
    return Outcome(
        check.name,
        check.promise,
        check.severity,
        "not_offered" if is_open and not strict else "failed",
        reason=key.redact(verdict.reason),
        curl="\n".join(dict.fromkeys(commands)),
    )


def show(card: Scorecard) -> None:
    """The table, then each defect with its reason and the commands that repeat it."""
    console = Console(highlight=False)
    rows = Table(
        Column("check", no_wrap=True), Column("", no_wrap=True), "promise", "measured or said", box=None, pad_edge=False
    )
    for outcome in card.outcomes:
        mark, style = MARKS[outcome.status]
        said = figures(outcome.measured) if outcome.status == "passed" else outcome.reason
        cells = (outcome.promise, terminal.printable(said))
        rows.add_row(outcome.name, Text(mark, style=style), *(Text(cell) for cell in cells))
    console.print(rows)
    for outcome in card.failed:
        _show_defect(console, outcome)
    console.print()
    console.print(Text(terminal.printable(card.summary()), style="bold"))


def _show_defect(console: Console, outcome: Outcome) -> None:
    console.print()
    console.print(Text(f"{outcome.name} ({outcome.severity})", style="bold red"), Text(outcome.promise))
    console.print(Text(terminal.printable(outcome.reason)), soft_wrap=True)
    commands = outcome.curl.splitlines()
    for command in commands[:SHOWN_COMMANDS]:
        console.print(Text(f"  {terminal.printable(command)}", style="dim"), soft_wrap=True)
    if len(commands) > SHOWN_COMMANDS:
        console.print(Text(f"  and {len(commands) - SHOWN_COMMANDS} more: see --json"))
    if f"${KEY_VARIABLE}" in outcome.curl:
        console.print(Text(f"  with the key in {KEY_VARIABLE}", style="dim"))


def _list(checks: Sequence[Check], *, as_json: bool) -> int:
    if as_json:
        names = ("name", "promise", "severity", "optional")
        terminal.say_json({"checks": [{name: getattr(check, name) for name in names} for check in checks]})
        return 0
    for check in checks:
        terminal.say(f"{check.name:<24} {check.severity:<9} {check.promise}")
    return 0
