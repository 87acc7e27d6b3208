"""Ledgers for tests: entries of a run as its owner would write them, without anybody who does."""

import secrets
from collections.abc import Iterable

from schemas.blobs import BlobRef
from schemas.chat import Usage
from schemas.request import RequestContext
from schemas.runs import (
    LeaseTaken,
    LedgerEntry,
    ModelAnswered,
    ModelAsked,
    NumberedEntry,
    RunAccepted,
    RunEvent,
    RunOrigin,
    RunSpec,
    ToolAnswered,
    ToolAsked,
)

RUN = "run-a"
TRACE = "0af7651916cd43dd8448eb211c80319c"


def ref(name: str) -> BlobRef:
    return BlobRef(key=f"sha256/{name}", size_bytes=1)


def context(run_id: str = RUN) -> RequestContext:
    return RequestContext(request_id=run_id, deadline_unix_seconds=2e9, traceparent=f"00-{TRACE}-b7ad6b7169203331-01")


def accepted(run_id: str = RUN, messages: Iterable[str] = ("goal",), origin: RunOrigin | None = None) -> LedgerEntry:
    spec = RunSpec(model="moonlet", messages=tuple(ref(name) for name in messages), title="a goal")
    event = RunAccepted(context=context(run_id), spec=spec, origin=origin)
    return LedgerEntry(
        entry_id=secrets.token_hex(8), run_id=run_id, owner="", term=0, time_unix_seconds=1000.0, events=(event,)
    )


class History:
    """Numbered entries; ``take`` and ``add`` append to them."""

    def __init__(self, run_id: str = RUN, **options: object) -> None:
        self.run_id = run_id
        self.term = 0
        self.entries = [NumberedEntry(sequence=1, entry=accepted(run_id, **options))]  # type: ignore[arg-type]

    def entry(self, *events: RunEvent, owner: str | None = None, term: int | None = None) -> NumberedEntry:
        sequence = self.entries[-1].sequence + 2
        term = self.term if term is None else term
        entry = LedgerEntry(
            entry_id=f"{self.run_id}-{sequence}",
            run_id=self.run_id,
            owner=owner if owner is not None else f"owner-{term}",
            term=term,
            time_unix_seconds=1000.0 + sequence,
            events=events,
        )
        return NumberedEntry(sequence=sequence, entry=entry)

    def add(self, *events: RunEvent) -> "History":
        self.entries.append(self.entry(*events))
        return self

    def take(self) -> "History":
        self.term += 1
        return self.add(LeaseTaken(owner=f"owner-{self.term}", term=self.term))

    def step(self, number: int, calls: int = 1) -> "History":
        """A whole one: asked, answered, its tools asked and answered, each with an entry of its own."""
        self.add(ModelAsked(step=number, message_count=1))
        self.add(answer(number, calls), *(tool(number, index) for index in range(calls)))
        for index in reversed(range(calls)):
            self.add(result(number, index))
        return self


def answer(step: int, calls: int = 0, **options: object) -> ModelAnswered:
    usage = Usage(prompt_tokens=100, completion_tokens=10)
    settings = {"usage": usage, "finish_reason": "stop", "cost_usd": 0.5, **options}
    return ModelAnswered(step=step, message=ref(f"answer-{step}"), tool_calls=calls, **settings)  # type: ignore[arg-type]


def call_id(step: int, index: int, run_id: str = RUN) -> str:
    return f"{run_id}-{step}-{index}"


def tool(step: int, index: int, **options: object) -> ToolAsked:
    return ToolAsked(
        step=step,
        call_id=call_id(step, index),
        tool_call_id=f"functions.python:{index}",
        tool="python",
        arguments=ref(f"arguments-{step}-{index}"),
        **options,  # type: ignore[arg-type]
    )


def result(step: int, index: int, **options: object) -> ToolAnswered:
    return ToolAnswered(
        step=step,
        call_id=call_id(step, index),
        message=ref(f"result-{step}-{index}"),
        **options,  # type: ignore[arg-type]
    )
