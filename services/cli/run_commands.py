"""What is said to a run from the command line: `steer`, `stop`, `pause`, `resume`, `approve`, `fork`.

Input: a run's id and words. Output: the id of a stored command, or the new run. Whoever owns the run takes it.
"""

import argparse
import re
import secrets
from typing import Any

import msgspec

from services.cli import run as runs_begun
from services.cli import session, terminal
from services.cli.config import DataConfig
from services.cli.run_client import Run, RunClient
from services.cli.run_place import add_options, with_run
from shared.errors import BadInput, NotFound

_SHORT_CALL = re.compile(r"\d+-\d+")
SIMPLE = {
    "stop": "end a run",
    "pause": "let a run rest until it is resumed",
    "resume": "let a paused run go on",
}


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    _add_steer(commands)
    for name, help_text in SIMPLE.items():
        parser = commands.add_parser(name, help=help_text)
        add_options(parser)
        parser.add_argument("--reason", default="", metavar="TEXT", help="kept with it")
        _finish(parser)
    _add_approve(commands)
    _add_fork(commands)


def _add_steer(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("steer", help="say something to a run")
    add_options(parser)
    parser.add_argument("text", metavar="TEXT", help="what the model reads next")
    parser.add_argument("--interrupt", action="store_true", help="give up the model call in flight")
    _finish(parser)


def _add_approve(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("approve", help="let a call happen that waits for it, or not")
    add_options(parser)
    parser.add_argument("call", nargs="?", metavar="CALL", help="as `attach` shows it (default: the only one)")
    parser.add_argument("--deny", action="store_true", help="it does not happen")
    parser.add_argument("--note", default="", metavar="TEXT", help="the model reads it when the call is denied")
    _finish(parser)


def _add_fork(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("fork", help="a new run whose past is a run's up to a step")
    add_options(parser)
    parser.add_argument("--step", type=step, required=True, metavar="N", help="the last step that both have")
    parser.add_argument("--goal", metavar="TEXT", help="said to the new run before it goes on")
    runs_begun.add_budget(parser)
    _finish(parser)


def step(text: str) -> int:
    """Raises ValueError, which argparse turns into words."""
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def _finish(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, data: DataConfig) -> int:
    """Raises MoontideError."""
    return session.run(_run(arguments, data))


async def _run(arguments: argparse.Namespace, data: DataConfig) -> int:
    key = secrets.token_hex(16)
    async with with_run(arguments, data) as (client, known):
        answer, words = await _said(arguments, client, known, key)
    terminal.say_result(msgspec.json.decode(answer), words, as_json=arguments.json)
    return 0


async def _said(arguments: argparse.Namespace, client: RunClient, known: Run, key: str) -> tuple[bytes, str]:
    """The gateway's answer, and the same in words."""
    if arguments.command == "fork":
        answer = await client.fork(known.id, _fork_body(arguments), key)
        new = msgspec.json.decode(answer, type=Run).id
        return answer, f"{new}\nmoontide attach {new}"
    if arguments.command == "steer":
        body = {"content": arguments.text, "interrupt": arguments.interrupt}
        return await client.command(known.id, "messages", body, key), "said; the model reads it next"
    if arguments.command == "approve":
        call = chosen_call(arguments.call, known)
        body = {"approved": not arguments.deny, "note": arguments.note}
        return await client.command(
            known.id, f"approvals/{call}", body, key
        ), "denied" if arguments.deny else "approved"
    return await client.command(known.id, arguments.command, {"reason": arguments.reason}, key), arguments.command


def _fork_body(arguments: argparse.Namespace) -> dict[str, Any]:
    limits = runs_begun.budget(arguments)
    goal = {"goal": arguments.goal} if arguments.goal else {}
    return {"step": arguments.step} | goal | ({"budget": limits} if limits else {})


def chosen_call(given: str | None, known: Run) -> str:
    """The call's whole id; ``STEP-NUMBER`` is enough, and nothing where only one waits. Raises NotFound, BadInput."""
    waiting = [approval.call_id for approval in known.approvals]
    if given is not None:
        return f"{known.id}-{given}" if _SHORT_CALL.fullmatch(given) else given
    if not waiting:
        raise NotFound("run.approval_not_found", f"no call of {known.id} waits for a decision")
    if len(waiting) > 1:
        listed = ", ".join(f"{a.call_id.removeprefix(f'{known.id}-')} ({a.tool})" for a in known.approvals)
        raise BadInput("input.call", f"several calls wait, name one: {listed}", param="CALL")
    return waiting[0]
