"""`moontide run`: a goal for an agent, followed until it is done.

Input: a goal, files or a repository, limits. Output: steps as they happen, then the answer and the patch, or one JSON
object. A run on a running stack outlives this command; Ctrl-C only stops watching it.
"""

import argparse
import asyncio
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services.cli import bundle, following, question, session, terminal
from services.cli.config import DataConfig
from services.cli.question import positive
from services.cli.run_client import File, Run, RunClient, read_run
from services.cli.supervisor import StackFailed
from shared.errors import BadInput, MoontideError

START_SECONDS = 60.0
"""How long a stack that has just started may have no coordinator."""
MAX_FILES = 256
PATCH_TYPE = "text/x-diff"
STRATEGIES = ("hide_tool_results", "summary", "discard_all")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("run", help="give a goal to an agent")
    parser.add_argument("goal", metavar="GOAL", help="what is to be done")
    parser.add_argument("--model", help="model to work with (default: the first one served)")
    parser.add_argument("--kind", choices=("agent", "swarm"), default="agent", help="swarms are not here yet")
    parser.add_argument("--tools", type=names, metavar="A,B", help="only these tools (default: all)")
    parser.add_argument("--approve", type=names, metavar="A,B", help="calls of these tools wait for `moontide approve`")
    parser.add_argument("--file", type=Path, action="append", metavar="PATH", help="into the workspace; also a folder")
    parser.add_argument(
        "--repo", type=Path, metavar="DIR", help="work on this git repository's HEAD; ends with a patch"
    )
    parser.add_argument("--patch-out", type=Path, metavar="FILE", help="where the patch goes (default: shown)")
    add_budget(parser)
    parser.add_argument("--context", choices=STRATEGIES, help="what goes first when the context is full")
    parser.add_argument("--no-thinking", action="store_true", help="act without reasoning first")
    parser.add_argument("--seed", type=int, metavar="N", help="same seed, same words")
    parser.add_argument("--detach", action="store_true", help="begin it and leave; `moontide attach` comes back")
    session.add_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object in the end (with --detach: at once)")
    parser.set_defaults(run=run)


def add_budget(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("hard limits: what would exceed one is not begun")
    group.add_argument("--max-steps", type=positive, metavar="N", help="model calls (default: 4000)")
    group.add_argument("--max-tokens", type=positive, metavar="N", help="of all model calls, prompts included")
    group.add_argument("--max-seconds", type=positive_number, metavar="S", help="in all (default: 12 hours)")
    group.add_argument("--max-cost", type=positive_number, metavar="USD", help="where the model has a price")


def names(text: str) -> list[str]:
    """Raises ValueError, which argparse turns into words."""
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise ValueError(text)
    return found


def positive_number(text: str) -> float:
    """Raises ValueError, which argparse turns into words."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError(text)
    return number


def budget(arguments: argparse.Namespace) -> dict[str, Any]:
    given = {
        "max_steps": arguments.max_steps,
        "max_tokens": arguments.max_tokens,
        "max_seconds": arguments.max_seconds,
        "max_cost_usd": arguments.max_cost,
    }
    return {name: value for name, value in given.items() if value is not None}


def run(arguments: argparse.Namespace, data: DataConfig) -> int:
    """0 when the run finished, else 1. Raises StackFailed, MoontideError."""
    own = session.running_url(arguments, data) is None
    if arguments.detach and own:
        raise StackFailed("--detach needs a stack that stays: start one with `moontide up`")
    if arguments.repo is not None and arguments.file:
        raise BadInput("input.two_workspaces", "a run begins with --file or with --repo, not both", param="--repo")

    async def body(url: str) -> int:
        async with RunClient.connect(url) as client:
            return await Start(arguments, client, own=own).run()

    return session.with_gateway(arguments, data, terminal.report, body)


class Start:
    """One run from the command line."""

    def __init__(self, arguments: argparse.Namespace, client: RunClient, *, own: bool) -> None:
        self._arguments = arguments
        self._client = client
        self._own = own

    async def run(self) -> int:
        started = read_run(await self._begun())
        if self._arguments.detach:
            terminal.say_result(
                await self._json(started), f"{started.id}\nmoontide attach {started.id}", as_json=self._arguments.json
            )
            return following.DONE
        terminal.report(f"run {started.id}")
        try:
            return await self._told(started.id)
        except asyncio.CancelledError:
            await self._leave(started.id)
            raise

    async def _told(self, run_id: str) -> int:
        silent = self._arguments.json
        ended = await following.follow(
            self._client, run_id, (lambda event, data: None) if silent else following.narrate(run_id)
        )
        patch = await self._patch(ended)
        if silent:
            terminal.say_json(await self._json(ended) | ({"patch": patch} if self._arguments.repo else {}))
        elif patch is not None and self._arguments.patch_out is None:
            terminal.say(patch)
        return following.code_of(ended)

    async def _leave(self, run_id: str) -> None:
        """Interrupted. A stack of this command's own ends with it, so its run does too."""
        if not self._own:
            terminal.report(f"the run goes on: moontide attach {run_id}, moontide stop {run_id}")
            return
        try:
            await self._client.command(run_id, "stop", {"reason": "interrupted"}, secrets.token_hex(16))
            terminal.report("the run was stopped, since its stack ends with this command")
        except MoontideError as error:
            terminal.report(f"the run could not be stopped: {error.message}")

    async def _patch(self, ended: Run) -> str | None:
        """Saved where it was wanted."""
        if self._arguments.repo is None:
            return None
        file = patch_of(ended)
        if file is None:
            terminal.report("the run has left no patch")
            return None
        text = await self._client.text(file)
        if self._arguments.patch_out is not None:
            self._arguments.patch_out.write_text(text)
            terminal.report(f"the patch is in {self._arguments.patch_out}")
        return text

    async def _json(self, run: Run) -> dict[str, Any]:
        return await self._client.run_object(run.id)

    async def _begun(self) -> bytes:
        """Sent again with the same key while nobody is there to take it."""
        body, key = await self._body(), secrets.token_hex(16)
        loop = asyncio.get_running_loop()
        give_up = loop.time() + START_SECONDS
        attempt = 0
        while True:
            try:
                return await self._client.start(body, key)
            except MoontideError as error:
                if not error.retryable or loop.time() > give_up:
                    raise
                attempt += 1
                await asyncio.sleep(question.pause_seconds(attempt, error.retry_after_seconds))

    async def _body(self) -> dict[str, Any]:
        arguments = self._arguments
        model = await session.choose_model(self._client, arguments.model, terminal.report)
        body: dict[str, Any] = {"model": model, "kind": arguments.kind, "goal": arguments.goal}
        optional = {
            "tools": arguments.tools,
            "approvals": arguments.approve,
            "budget": budget(arguments) or None,
            "context_strategy": arguments.context,
            "thinking": False if arguments.no_thinking else None,
            "seed": arguments.seed,
            "files": await self._files() or None,
            "repository": await self._repository(),
        }
        return body | {name: value for name, value in optional.items() if value is not None}

    async def _files(self) -> list[dict[str, str]]:
        found = list(workspace_files(self._arguments.file or []))
        return [{"file_id": await self._client.upload(file, "user_data"), "path": path} for file, path in found]

    async def _repository(self) -> str | None:
        repository = self._arguments.repo
        if repository is None:
            return None
        if bundle.has_changes(repository):
            terminal.report(f"changes in {repository} that are not committed do not go along")
        with tempfile.TemporaryDirectory(prefix="moontide-") as folder:
            file = Path(folder) / "repository.bundle"
            bundle.make(repository, file)
            return await self._client.upload(file, "user_data")


def workspace_files(paths: list[Path]) -> Iterator[tuple[Path, str]]:
    """(file, path in the workspace); of a folder everything inside, below its name. Raises BadInput."""
    count = 0
    for path in paths:
        inside = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        for file in inside:
            count += 1
            if count > MAX_FILES:
                raise BadInput("input.too_many", f"at most {MAX_FILES} files go along", param="--file")
            yield file, (Path(path.resolve().name) / file.relative_to(path)).as_posix() if file != path else path.name


def patch_of(run: Run) -> File | None:
    return next((file for file in run.files if file.media_type == PATCH_TYPE), None)
