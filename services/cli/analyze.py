"""`moontide analyze`: images and videos in, one answer about each out.

Input: files and a question. Output: streamed answers with usage, timings and trace, or one JSON object per input, in
the order of the inputs; on demand a page with all of them. A bad input fails alone. Knows nothing
of how a stack is run.
"""

import argparse
import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.cli import inputs, question, session, sighting, terminal, trace
from services.cli.answer import Answer
from services.cli.client import GatewayClient
from services.cli.config import DataConfig
from services.cli.question import Options
from services.cli.report import Page, Report
from services.cli.sighting import Pictures, Sighting
from services.cli.transcript import Transcript
from shared.errors import MoontideError

AT_ONCE = 4
WINDOW = 64
"""Inputs that may be finished but not yet printed, since an earlier one is slow."""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("analyze", help="ask about images and videos")
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="media files, or directories of them")
    parser.add_argument("--ask", required=True, metavar="TEXT", help="the question, asked about each input")
    question.add_options(parser)
    session.add_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object per input and line")
    parser.add_argument("--report", type=Path, metavar="OUT.html", help="also write one self-contained page")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, data: DataConfig) -> int:
    """0 when every input was answered, else 1."""
    options = question.options_of(arguments)

    async def body(url: str) -> int:
        async with GatewayClient.open(url) as client:
            model = await session.choose_model(client, options.model, terminal.report)
            report = Report(arguments.report, arguments.ask, model) if arguments.report is not None else None
            analysis = Analysis(client, options, model, arguments.ask, as_json=arguments.json, report=report)
            with report if report is not None else nullcontext():
                return await analysis.run(inputs.expand(arguments.paths))

    return session.with_gateway(arguments, data, terminal.report, body)


@dataclass(frozen=True)
class Outcome:
    result: Answer | MoontideError
    total_seconds: float
    sighting: Sighting = field(default_factory=Sighting)


@dataclass(frozen=True)
class Running:
    path: Path
    transcript: Transcript
    task: asyncio.Task[Outcome]


class Analysis:
    """One question about many inputs: a few at a time, told in the order of the inputs."""

    def __init__(
        self,
        client: GatewayClient,
        options: Options,
        model: str,
        text: str,
        *,
        as_json: bool,
        report: Report | None = None,
    ) -> None:
        self._client = client
        self._options = options
        self._model = model
        self._text = text
        self._as_json = as_json
        self._report = report
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run(self, paths: Iterator[Path]) -> int:
        failures = 0
        window: deque[Running] = deque()
        async with asyncio.TaskGroup() as group:
            while self._fill(window, paths, group):
                head = window.popleft()
                if not self._as_json:
                    head.transcript.go_live(str(head.path))
                outcome = await head.task
                failures += isinstance(outcome.result, MoontideError)
                await self._tell(head, outcome)
        return 1 if failures else 0

    def _fill(self, window: deque[Running], paths: Iterator[Path], group: asyncio.TaskGroup) -> bool:
        while len(window) < WINDOW and (path := next(paths, None)) is not None:
            transcript = Transcript()
            window.append(Running(path, transcript, group.create_task(self._answer(path, transcript))))
        return bool(window)

    async def _answer(self, path: Path, transcript: Transcript) -> Outcome:
        async with self._slots:
            started = time.monotonic()
            try:
                answer = await self._ask(path, transcript)
            except MoontideError as error:
                return Outcome(error, time.monotonic() - started)
            total_seconds = time.monotonic() - started
            return Outcome(answer, total_seconds, await sighting.look(self._client, answer))

    async def _ask(self, path: Path, transcript: Transcript) -> Answer:
        kind = inputs.kind_of(path)

        async def make_request() -> dict[str, Any]:
            file_id = await self._client.upload(path, question.UPLOAD_PURPOSE[kind])
            content = [question.media_part(kind, file_id), question.text_part(self._text)]
            return question.request(self._options, self._model, [{"role": "user", "content": content}])

        return await question.ask(self._client, make_request, transcript, _report_about(path))

    async def _tell(self, running: Running, outcome: Outcome) -> None:
        if isinstance(outcome.result, MoontideError):
            self._tell_failure(running, outcome.result)
            if self._report is not None:
                self._report.add(running.path.name, outcome.result)
        else:
            await self._tell_answer(running, outcome.result, outcome)

    async def _tell_answer(self, running: Running, answer: Answer, outcome: Outcome) -> None:
        if outcome.sighting.problem:
            terminal.report(f"{running.path.name}: {outcome.sighting.problem}")
        if self._as_json:
            terminal.say_json(answer.to_json(str(running.path), outcome.total_seconds, outcome.sighting.to_json()))
        else:
            running.transcript.tell_facts(answer, outcome.total_seconds)
        if self._as_json and self._report is None:
            return
        body = await trace.finished(self._client, answer.trace_id)
        if not self._as_json:
            await trace.show(body, answer.trace_id)
        if self._report is not None:
            self._report.add(running.path.name, await self._page(answer, outcome, body))

    async def _page(self, answer: Answer, outcome: Outcome, body: bytes | None) -> Page:
        key = answer.media[0].manifest if answer.media else ""
        try:
            pictures = await sighting.pictures(self._client, key, outcome.sighting)
        except MoontideError as error:
            terminal.report(f"a picture is missing in the report: {error.message}")
            pictures = Pictures()
        return Page(answer, outcome.sighting, pictures, trace.read(body), outcome.total_seconds)

    def _tell_failure(self, running: Running, error: MoontideError) -> None:
        if self._as_json:
            terminal.say_json({"input": str(running.path), "error": error_json(error)})
        else:
            running.transcript.tell_failure(f"failed: {error.message} ({error.code})")


def error_json(error: MoontideError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "status": error.status, "param": error.param}


def _report_about(path: Path) -> Callable[[str], None]:
    return lambda text: terminal.report(f"{path.name}: {text}")
