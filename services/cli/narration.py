"""A run as a person reads it in a terminal: steps, thoughts, calls with what came of them, what is left of the budget.

Input: events, and live pieces in between. Output: text on stdout, reasoning dim. What was told live is not told again.
Knows nothing of HTTP.
"""

import json
from collections.abc import Callable

from services.cli.run_client import Budget, Event, Message
from services.cli.terminal import RunVoice

SHORT_CHARACTERS = 100
RESULT_CHARACTERS = 160


class Told:
    """How much of one text of the step in flight was told."""

    def __init__(self) -> None:
        self._text = ""

    def fresh(self, start: int, text: str) -> str:
        """What of ``text`` is new; nothing behind a gap, since the whole text comes later."""
        if start > len(self._text):
            return ""
        new = text[len(self._text) - start :]
        self._text += new
        return new

    def rest(self, whole: str) -> str:
        """What completes it, all of it where something else was told."""
        told, self._text = self._text, ""
        return whole[len(told) :] if whole.startswith(told) else f"\n{whole}"


class Narration:
    def __init__(self, run_id: str, voice: RunVoice) -> None:
        self._run_id = run_id
        self._voice = voice
        self._reasoning, self._content = Told(), Told()
        self._budget = Budget(max_steps=0)
        self._tokens, self._cost_usd = 0, 0.0
        self._started: float | None = None
        self._tools: dict[str, str] = {}
        self._progress: dict[str, str] = {}
        self._tellers: dict[str, Callable[[Event], None]] = {
            "run.accepted": self._run_accepted,
            "lease.taken": self._lease_taken,
            "model.asked": self._model_asked,
            "run.delta": self._run_delta,
            "model.answered": self._model_answered,
            "model.failed": self._model_failed,
            "tool.asked": self._tool_asked,
            "tool.decided": self._tool_decided,
            "tool.answered": self._tool_answered,
            "message.added": self._message_added,
            "context.reduced": self._context_reduced,
            "run.waiting": self._run_waiting,
            "run.paused": self._run_paused,
            "run.resumed": self._run_resumed,
            "run.ended": self._run_ended,
        }

    def hear(self, event: Event) -> None:
        """What a later version adds is passed over."""
        if event.type in self._tellers:
            self._tellers[event.type](event)

    def _run_accepted(self, event: Event) -> None:
        self._started = event.time_unix_seconds
        self._budget = event.budget or self._budget

    def _lease_taken(self, event: Event) -> None:
        if event.term > 1:
            self._voice.note(f"taken over by {event.owner}")

    def _model_asked(self, event: Event) -> None:
        again = f", attempt {event.attempt}" if event.attempt > 1 else ""
        self._voice.heading(f"step {event.step}{again}")

    def _run_delta(self, event: Event) -> None:
        if event.call_id:
            self._tool_progress(event)
            return
        self._say(
            self._reasoning.fresh(event.reasoning_start, event.reasoning),
            self._content.fresh(event.content_start, event.content),
        )

    def _say(self, reasoning: str, content: str) -> None:
        if reasoning:
            self._voice.reasoning(reasoning)
        if content:
            self._voice.content(content)

    def _tool_progress(self, event: Event) -> None:
        """Only what is new, since it comes twice a second. The first only says that somebody has the call."""
        known = self._progress.get(event.call_id)
        self._progress[event.call_id] = event.progress
        if known is not None and event.progress not in ("", known):
            self._voice.note(
                f"{self._tools.get(event.call_id, 'a tool')}: {shortened(event.progress, RESULT_CHARACTERS)}"
            )

    def _model_answered(self, event: Event) -> None:
        message = event.message or Message(role="assistant")
        self._say(self._reasoning.rest(message.reasoning_content), self._content.rest(message.content))
        self._voice.end_line()
        self._tokens += event.usage.total_tokens if event.usage is not None else 0
        self._cost_usd += event.cost_usd
        self._voice.note(self._spent(event))

    def _spent(self, event: Event) -> str:
        """What was used, of what there is."""
        budget = self._budget
        seconds = event.time_unix_seconds - (self._started or event.time_unix_seconds)
        parts = [
            _of(f"step {event.step}", budget.max_steps or None, "d"),
            _of(f"{self._tokens} tokens", budget.max_tokens, "d"),
            duration(seconds) + (f" of {duration(budget.max_seconds)}" if budget.max_seconds else ""),
        ]
        if self._cost_usd or budget.max_cost_usd:
            parts.append(_of(f"${self._cost_usd:.4f}", budget.max_cost_usd, ".4f"))
        return " · ".join(parts)

    def _model_failed(self, event: Event) -> None:
        self._reasoning, self._content = Told(), Told()
        self._voice.failure(f"the model did not answer: {_words(event)}")

    def _tool_asked(self, event: Event) -> None:
        self._tools[event.call_id] = event.tool
        self._voice.call(f"{event.tool}  {arguments_in_short(event.arguments)}")
        if event.needs_approval:
            call = event.call_id.removeprefix(f"{self._run_id}-")
            self._voice.question(f"waits for you: moontide approve {self._run_id} {call}  [--deny]")

    def _tool_decided(self, event: Event) -> None:
        note = f": {event.note}" if event.note else ""
        self._voice.note(f"{'approved' if event.approved else 'denied'}{note}")

    def _tool_answered(self, event: Event) -> None:
        tool = self._tools.pop(event.call_id, "tool")
        self._progress.pop(event.call_id, None)
        text = shortened(event.message.content if event.message is not None else "", RESULT_CHARACTERS)
        files = "".join(f"  [{file.name}]" for file in event.files)
        repeated = "  (may have happened more than once)" if event.possibly_repeated else ""
        line = f"{tool}  {event.seconds:.1f} s  {text}{files}{repeated}"
        if event.error is not None:
            self._voice.failure(f"✗ {line}")
        else:
            self._voice.result(f"✓ {line}")

    def _message_added(self, event: Event) -> None:
        who = "you" if event.author == "person" else "coordinator"
        text = event.message.content if event.message is not None else ""
        self._voice.question(f"{who}: {shortened(text, 4 * RESULT_CHARACTERS)}")

    def _context_reduced(self, event: Event) -> None:
        self._voice.note(f"the context was full: {event.strategy.replace('_', ' ')}")

    def _run_waiting(self, event: Event) -> None:
        self._voice.question(f"waiting: {_words(event)}")

    def _run_paused(self, event: Event) -> None:
        self._voice.question(f"paused; moontide resume {self._run_id}")

    def _run_resumed(self, event: Event) -> None:
        self._voice.note("goes on")

    def _run_ended(self, event: Event) -> None:
        self._voice.end_line()
        words = f"{event.outcome}{f': {_words(event)}' if event.error is not None else ''}"
        (self._voice.fact if event.outcome == "finished" and event.error is None else self._voice.failure)(words)


def arguments_in_short(arguments: str) -> str:
    """``{"path": "a", "depth": 2}`` as ``path=a  depth=2``."""
    try:
        values = json.loads(arguments or "{}")
    except ValueError:
        return shortened(arguments, SHORT_CHARACTERS)
    if not isinstance(values, dict):
        return shortened(arguments, SHORT_CHARACTERS)
    return "  ".join(f"{name}={shortened(_value(value), SHORT_CHARACTERS)}" for name, value in values.items())


def duration(seconds: float) -> str:
    """In its largest unit."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"


def shortened(text: str, characters: int) -> str:
    """On one line."""
    line = " ".join(text.split())
    return line if len(line) <= characters else f"{line[: characters - 1]}…"


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _of(used: str, limit: float | None, form: str) -> str:
    return used if limit is None else f"{used} of {limit:{form}}"


def _words(event: Event) -> str:
    return f"{event.error.message} ({event.error.code})" if event.error is not None else ""
