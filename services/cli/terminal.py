"""What a person or a program reads: results on stdout, progress on stderr.

Input: values and texts, also untrusted ones from models and servers. Output: printed text without control characters,
so that an answer cannot steer the terminal. Knows nothing of where they come from.
"""

import json
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """``text`` without control characters, line feeds and tabs excepted."""
    return text.translate(_CONTROLS)


def literal(text: str) -> Text:
    """For tables: what looks like rich's markup is not."""
    return Text(printable(text).replace("\n", " "))


def say_json(value: Any) -> None:
    """One object on one line, at once."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def say(text: str) -> None:
    print(printable(text), flush=True)


def say_result(value: dict[str, Any], words: str, *, as_json: bool) -> None:
    if as_json:
        say_json(value)
    else:
        say(words)


def report(text: str) -> None:
    """Progress and complaints, on stderr: stdout belongs to the result."""
    print(f"moontide: {printable(text)}", file=sys.stderr, flush=True)


class Voice:
    """Streams an answer to stdout: reasoning dim, then the answer, with a line between them."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._spoke_reasoning = False
        self._in_line = False

    def heading(self, text: str) -> None:
        self._console.print(Text(f"── {printable(text)}", style="bold"))

    def reasoning(self, text: str) -> None:
        self._spoke_reasoning = True
        self._stream(text, "dim")

    def content(self, text: str) -> None:
        if self._spoke_reasoning:
            self._spoke_reasoning = False
            self.end_line()
        self._stream(text, "")

    def fact(self, text: str) -> None:
        self.end_line()
        self._console.print(Text(printable(text), style="cyan"))

    def failure(self, text: str) -> None:
        self.end_line()
        self._console.print(Text(printable(text), style="red"))

    def end_line(self) -> None:
        if self._in_line:
            self._console.print()
            self._in_line = False

    def _stream(self, text: str, style: str) -> None:
        shown = printable(text)
        if shown:
            self._console.print(Text(shown, style=style), end="")
            self._console.file.flush()
            self._in_line = not shown.endswith("\n")


class RunVoice(Voice):
    """Also what a run does between its answers; every line stands alone."""

    def heading(self, text: str) -> None:
        self.end_line()
        super().heading(text)

    def note(self, text: str) -> None:
        self._line(text, "dim")

    def call(self, text: str) -> None:
        self._line(f"→ {text}", "cyan")

    def result(self, text: str) -> None:
        self._line(text, "green")

    def question(self, text: str) -> None:
        self._line(text, "yellow")

    def _line(self, text: str, style: str) -> None:
        self.end_line()
        self._console.print(Text(printable(text), style=style))
