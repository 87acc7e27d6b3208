"""`moontide chat`: talk to a model in the terminal, with images and videos in the conversation.

Input: lines of standard input, typed or piped; `/image PATH`, `/video PATH`, `/quit`. Output: streamed answers,
reasoning apart. The conversation lives here, and is sent whole with every question.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from schemas.media import MediaKind
from services.cli import question, session, terminal
from services.cli.answer import Answer
from services.cli.client import GatewayClient
from services.cli.config import DataConfig
from services.cli.lines import LineReader
from services.cli.question import Options
from services.cli.transcript import Transcript
from shared.errors import MoontideError

HELP = "type a question, or /image PATH, /video PATH, /quit"


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("chat", help="talk, streamed, with /image and /video")
    question.add_options(parser)
    session.add_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object per answer and line")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, data: DataConfig) -> int:
    """1 when an answer failed, else 0."""
    options = question.options_of(arguments)

    async def body(url: str) -> int:
        async with GatewayClient.open(url) as client:
            model = await session.choose_model(client, options.model, terminal.report)
            conversation = Conversation(client, options, model, as_json=arguments.json)
            return await conversation.run(LineReader(sys.stdin.fileno()))

    return session.with_gateway(arguments, data, terminal.report, body)


class Conversation:
    """Messages so far, and the media that go with the next question."""

    def __init__(self, client: GatewayClient, options: Options, model: str, *, as_json: bool) -> None:
        self._client = client
        self._options = options
        self._model = model
        self._as_json = as_json
        self._messages: list[dict[str, Any]] = []
        self._attached: list[dict[str, Any]] = []
        self._failures = 0

    async def run(self, lines: LineReader) -> int:
        if sys.stdin.isatty():
            terminal.report(HELP)
        while (line := await self._read(lines)) is not None:
            try:
                if not await self._follow(line.strip()):
                    break
            except MoontideError as error:
                self._failures += 1
                terminal.report(f"{error.message} ({error.code})")
        return 1 if self._failures else 0

    async def _read(self, lines: LineReader) -> str | None:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        return await lines.next()

    async def _follow(self, line: str) -> bool:
        """One line of input. False when it ends the conversation."""
        command, _, rest = line.partition(" ")
        if command == "/quit":
            return False
        if command == "/image":
            await self._attach("image", rest.strip())
        elif command == "/video":
            await self._attach("video", rest.strip())
        elif command.startswith("/"):
            terminal.report(HELP)
        elif line:
            await self._ask(line)
        return True

    async def _attach(self, kind: MediaKind, path: str) -> None:
        file_id = await self._client.upload(Path(path), question.UPLOAD_PURPOSE[kind])
        self._attached.append(question.media_part(kind, file_id))
        terminal.report(f"{path} goes with your next question")

    async def _ask(self, text: str) -> None:
        """Both messages stay in the conversation only when the question was answered."""
        content = [*self._attached, question.text_part(text)]
        messages = [*self._messages, {"role": "user", "content": content}]
        self._attached = []
        answer = await self._answer(text, messages)
        self._messages = [*messages, {"role": "assistant", "content": answer.content}]

    async def _answer(self, text: str, messages: list[dict[str, Any]]) -> Answer:
        transcript = Transcript()
        if not self._as_json:
            transcript.go_live()

        async def make_request() -> dict[str, Any]:
            return question.request(self._options, self._model, messages)

        started = time.monotonic()
        try:
            answer = await question.ask(self._client, make_request, transcript, terminal.report)
        finally:
            transcript.end()
        if self._as_json:
            terminal.say_json(answer.to_json(text, time.monotonic() - started))
        return answer
