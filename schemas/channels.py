"""Which messages travel on which subject: the table behind the AsyncAPI document.

Input: nothing. Output: ``channels()``. It must not know how a document is written.
"""

from dataclasses import dataclass
from typing import Literal

import msgspec

from schemas import names
from schemas.calls import CallAdmitted, CallBeat, CallCancelled, CallEnded, CallItem, CallOpened
from schemas.chat import ChatDelta, ChatFinished, ChatRequest, CountRequest, TokensCounted
from schemas.events import CloudEvent, HolderAnswered, HolderQuery
from schemas.failure import Failure
from schemas.generation import GenerateRequest, GenerationFinished, TokensGenerated
from schemas.media import MediaFailed, MediaJob, MediaPrepared, MediaProgress
from schemas.parked import ParkedJob
from schemas.runs import (
    CommandStored,
    EntriesListed,
    EntriesQuery,
    LeaseBeat,
    LedgerEntry,
    NumberedEntry,
    RunCommand,
    RunDelta,
    RunQuery,
    RunsListed,
    RunsQuery,
    RunSubmitted,
    RunSummary,
    RunWake,
)
from schemas.shards import (
    EmbeddingParcel,
    EncodeRequest,
    Forward,
    ForwardDone,
    ForwardFailed,
    MediaHeld,
    MediaMissing,
    MediaWanted,
    ShardOpened,
    ShardReady,
)
from schemas.telemetry import ProcessBeat, SpanEnded, SpanStarted, Trace, TraceQuery, UsageListed, UsageQuery
from schemas.tools import ToolCancelled, ToolFinished, ToolJob, ToolProgress, ToolsListed, ToolsQuery


@dataclass(frozen=True)
class Message:
    """``kind`` as it travels; ``body``: what its already encoded field ``body`` holds."""

    kind: type[msgspec.Struct]
    body: type[msgspec.Struct] | None = None

    @property
    def name(self) -> str:
        return f"{self.kind.__name__}.{self.body.__name__}" if self.body else self.kind.__name__


@dataclass(frozen=True)
class Channel:
    """``subject`` is made with the parameters' own names in their places; ``replies`` makes it a request."""

    name: str
    subject: str
    messages: tuple[Message, ...]
    replies: tuple[Message, ...] = ()
    parameters: tuple[str, ...] = ()
    content_type: Literal["application/msgpack", "application/json"] = "application/msgpack"

    @property
    def address(self) -> str:
        tokens = self.subject.split(".")
        return ".".join(f"{{{token}}}" if token in self.parameters else token for token in tokens)


ADMISSION = (Message(CallAdmitted), Message(Failure))
ANSWERS = (ChatDelta, ChatFinished, TokensCounted, TokensGenerated, GenerationFinished)
SHARD_ANSWERS = (ShardReady, ForwardDone, ForwardFailed, MediaHeld, MediaMissing, EmbeddingParcel)


def channels() -> tuple[Channel, ...]:
    """Every subject of ``names``."""
    return (
        Channel("chat", names.chat("model"), (Message(CallOpened, ChatRequest),), ADMISSION, ("model",)),
        Channel("count", names.count("model"), (Message(CallOpened, CountRequest),), ADMISSION, ("model",)),
        Channel("generate", names.generate("model"), (Message(CallOpened, GenerateRequest),), ADMISSION, ("model",)),
        Channel("shard", names.shard("model"), (Message(CallOpened, ShardOpened),), ADMISSION, ("model",)),
        Channel("shard_work", names.shard_work("token_"), (Message(Forward), Message(MediaWanted)), (), ("token_",)),
        Channel("encode", names.encode("model"), (Message(CallOpened, EncodeRequest),), ADMISSION, ("model",)),
        Channel(
            "attempt_output",
            names.attempt_output("attempt_id"),
            (*(Message(CallItem, item) for item in ANSWERS + SHARD_ANSWERS), Message(CallBeat), Message(CallEnded)),
            parameters=("attempt_id",),
        ),
        Channel(
            "attempt_control",
            names.attempt_control("attempt_id"),
            (Message(CallBeat), Message(CallCancelled)),
            parameters=("attempt_id",),
        ),
        Channel("media_requested", names.media_requested("job_id"), (Message(MediaJob),), parameters=("job_id",)),
        Channel(
            "media_outcome",
            names.media_outcome("job_id"),
            (Message(MediaProgress), Message(MediaPrepared), Message(MediaFailed)),
            parameters=("job_id",),
        ),
        Channel(
            "parked",
            names.parked("stream", "durable", "job_id"),
            (Message(ParkedJob),),
            parameters=("stream", "durable", "job_id"),
        ),
        _events("event_accepted", names.event_accepted("request_id")),
        _events("event_terminal", names.event_terminal("request_id")),
        Channel(
            "holder",
            names.holder("instance"),
            (Message(HolderQuery),),
            (Message(HolderAnswered), ADMISSION[1]),
            ("instance",),
        ),
        Channel(
            "spans",
            names.spans("service"),
            (Message(SpanStarted), Message(SpanEnded), Message(ProcessBeat)),
            parameters=("service",),
        ),
        _asked("SUBJECT_TRACE_GET", names.SUBJECT_TRACE_GET, TraceQuery, Trace),
        _asked("SUBJECT_USAGE_GET", names.SUBJECT_USAGE_GET, UsageQuery, UsageListed),
        *_tool_channels(),
        *_run_channels(),
    )


def _tool_channels() -> tuple[Channel, ...]:
    call = ("call_id",)
    return (
        Channel("tool_requested", names.tool_requested("call_id"), (Message(ToolJob),), parameters=call),
        Channel(
            "tool_outcome",
            names.tool_outcome("call_id"),
            (Message(ToolProgress), Message(ToolFinished)),
            parameters=call,
        ),
        Channel("tool_control", names.tool_control("call_id"), (Message(ToolCancelled),), parameters=call),
        _asked("SUBJECT_TOOLS_LIST", names.SUBJECT_TOOLS_LIST, ToolsQuery, ToolsListed),
    )


def _run_channels() -> tuple[Channel, ...]:
    run = ("run_id",)
    return (
        Channel("run_wake", names.run_wake("run_id"), (Message(RunWake),), parameters=run),
        Channel("run_command", names.run_command("run_id"), (Message(RunCommand),), parameters=run),
        Channel("run_lease", names.run_lease("run_id"), (Message(LeaseBeat),), parameters=run),
        Channel("run_live", names.run_live("run_id"), (Message(NumberedEntry), Message(RunDelta)), parameters=run),
        Channel(
            "ledger", names.ledger("partition", "run_id"), (Message(LedgerEntry),), parameters=("partition", "run_id")
        ),
        _asked("SUBJECT_RUN_SUBMIT", names.SUBJECT_RUN_SUBMIT, RunSubmitted, RunSummary),
        _asked("SUBJECT_RUN_GET", names.SUBJECT_RUN_GET, RunQuery, RunSummary),
        _asked("SUBJECT_RUN_LIST", names.SUBJECT_RUN_LIST, RunsQuery, RunsListed),
        _asked("SUBJECT_RUN_ENTRIES", names.SUBJECT_RUN_ENTRIES, EntriesQuery, EntriesListed),
        _asked("SUBJECT_RUN_COMMAND", names.SUBJECT_RUN_COMMAND, RunCommand, CommandStored),
    )


def _asked(name: str, subject: str, query: type[msgspec.Struct], reply: type[msgspec.Struct]) -> Channel:
    return Channel(name, subject, (Message(query),), (Message(reply), ADMISSION[1]))


def _events(name: str, subject: str) -> Channel:
    return Channel(name, subject, (Message(CloudEvent),), parameters=("request_id",), content_type="application/json")
