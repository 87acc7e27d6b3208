"""Every name on the wire: subjects, streams, durables, micro services, buckets.

Nothing else in the project spells a subject. Names that end in an id end in exactly one token, so that permissions
can be written with one wildcard. This module must not know what the messages contain.
"""

import re
import zlib

PREFIX = "moontide.v1"

# Streams (JetStream) and the subjects that each one binds.
STREAM_MEDIA = "MOONTIDE_MEDIA"
STREAM_PARKED = "MOONTIDE_PARKED"
STREAM_EVENTS = "MOONTIDE_EVENTS"
STREAM_SPANS = "MOONTIDE_SPANS"
STREAM_TOOLS = "MOONTIDE_TOOLS"
STREAM_RUNS = "MOONTIDE_RUNS"
STREAM_COMMANDS = "MOONTIDE_COMMANDS"
STREAM_LEASES = "MOONTIDE_LEASES"
STREAM_LEDGER = "MOONTIDE_LEDGER"
"""Followed by ``_<partition>``."""
LEDGER_PARTITIONS = 4

MEDIA_ALL = f"{PREFIX}.media.requested.*"
PARKED_ALL = f"{PREFIX}.parked.>"
EVENTS_ALL = f"{PREFIX}.events.>"
SPANS_ALL = f"{PREFIX}.spans.>"
TOOLS_ALL = f"{PREFIX}.tools.requested.*"
RUNS_ALL = f"{PREFIX}.runs.wake.*"
COMMANDS_ALL = f"{PREFIX}.runs.commands.*"
LEASES_ALL = f"{PREFIX}.runs.leases.*"

# Durable consumers: reader-action, never renamed (a rename loses the position).
DURABLE_INGEST = "ingest-prepare"
DURABLE_RECORDER_SPANS = "recorder-spans"
DURABLE_TOOLS = "tools-run"
DURABLE_COORDINATOR = "coordinator-wake"

# NATS micro services.
SERVICE_TOKENIZER = "moontide-tokenizer"
SERVICE_TOKEN_COUNTS = "moontide-token-counts"
SERVICE_UPSTREAM = "moontide-upstream"
SERVICE_ENGINE = "moontide-engine"
SERVICE_SHARD = "moontide-shard"
SERVICE_ENCODER = "moontide-encoder"
SERVICE_RECORDER = "moontide-recorder"
SERVICE_TOOLS = "moontide-tools"
SERVICE_COORDINATOR = "moontide-coordinator"
SERVICE_HOLDER = "moontide-holder"
"""Whoever accepts requests and holds their state."""

SUBJECT_TRACE_GET = f"{PREFIX}.traces.get"
"""Request: ``TraceQuery``; reply: ``Trace`` or ``Failure``."""
SUBJECT_USAGE_GET = f"{PREFIX}.usage.get"
"""Request: ``UsageQuery``; reply: ``UsageListed`` or ``Failure``. Answered by the recorder, like traces."""
SUBJECT_TOOLS_LIST = f"{PREFIX}.tools.list"
"""Request: ``ToolsQuery``; reply: ``ToolsListed`` or ``Failure``. Answered by any tools process."""
SUBJECT_RUN_SUBMIT = f"{PREFIX}.runs.submit"
"""Request: ``RunSubmitted``; reply: ``RunSummary`` or ``Failure``. This and the next ones: by any coordinator."""
SUBJECT_RUN_GET = f"{PREFIX}.runs.get"
"""Request: ``RunQuery``; reply: ``RunSummary`` or ``Failure``."""
SUBJECT_RUN_LIST = f"{PREFIX}.runs.list"
"""Request: ``RunsQuery``; reply: ``RunsListed`` or ``Failure``."""
SUBJECT_RUN_ENTRIES = f"{PREFIX}.runs.entries"
"""Request: ``EntriesQuery``; reply: ``EntriesListed`` or ``Failure``."""
SUBJECT_RUN_COMMAND = f"{PREFIX}.runs.command"
"""Request: ``RunCommand``; reply: ``CommandStored`` or ``Failure``."""

_TOKEN = re.compile(r"^[A-Za-z0-9_-]+$")


def slug(model: str) -> str:
    """A model name as one subject token: lower case, every run of other characters becomes one ``-``."""
    token = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    if not token:
        raise ValueError(f"model name {model!r} has no letter or digit")
    return token


def token(value: str) -> str:
    """``value`` itself if it is safe as one subject token; ValueError otherwise."""
    if not _TOKEN.match(value):
        raise ValueError(f"{value!r} cannot be a subject token")
    return value


def chat(model: str) -> str:
    """Admission of a chat: answered by a tokenizer or an upstream."""
    return f"{PREFIX}.chat.{slug(model)}"


def count(model: str) -> str:
    """Admission of a count of prompt tokens: answered by a tokenizer."""
    return f"{PREFIX}.count.{slug(model)}"


def generate(model: str) -> str:
    """Admission of a generation: answered by an engine."""
    return f"{PREFIX}.generate.{slug(model)}"


def shard(model: str) -> str:
    """Admission of an engine at a shard, which serves one engine at a time."""
    return f"{PREFIX}.shard.open.{slug(model)}"


def shard_work(token_: str) -> str:
    """Engine to shard: forwards and wanted media of one opened shard."""
    return f"{PREFIX}.shard.work.{token(token_)}"


def encode(model: str) -> str:
    """Admission of one media item at an encoder, called by a shard."""
    return f"{PREFIX}.encode.{slug(model)}"


def attempt_output(attempt_id: str) -> str:
    """Callee to caller, one subject per attempt (principle 2: late output of a dead attempt reaches nobody)."""
    return f"{PREFIX}.attempt.output.{token(attempt_id)}"


def attempt_control(attempt_id: str) -> str:
    """Caller to callee: beats and cancellation of one attempt."""
    return f"{PREFIX}.attempt.control.{token(attempt_id)}"


def media_requested(job_id: str) -> str:
    """Work queue ``MOONTIDE_MEDIA``."""
    return f"{PREFIX}.media.requested.{token(job_id)}"


def media_outcome(job_id: str) -> str:
    """Core NATS: ``MediaProgress``, then one ``MediaPrepared`` or ``MediaFailed``."""
    return f"{PREFIX}.media.outcome.{token(job_id)}"


def tool_requested(call_id: str) -> str:
    """Work queue ``MOONTIDE_TOOLS``."""
    return f"{PREFIX}.tools.requested.{token(call_id)}"


def tool_outcome(call_id: str) -> str:
    """Core NATS: ``ToolProgress``, then one ``ToolFinished``."""
    return f"{PREFIX}.tools.outcome.{token(call_id)}"


def tool_control(call_id: str) -> str:
    """Core NATS, coordinator to whoever works on the call: ``ToolCancelled``."""
    return f"{PREFIX}.tools.control.{token(call_id)}"


def run_wake(run_id: str) -> str:
    """Work queue ``MOONTIDE_RUNS``."""
    return f"{PREFIX}.runs.wake.{token(run_id)}"


def run_command(run_id: str) -> str:
    """Log ``MOONTIDE_COMMANDS``: commands of one run, in order."""
    return f"{PREFIX}.runs.commands.{token(run_id)}"


def run_lease(run_id: str) -> str:
    """Log ``MOONTIDE_LEASES``, which keeps the last ``LeaseBeat`` of a run, and only for some seconds."""
    return f"{PREFIX}.runs.leases.{token(run_id)}"


def run_live(run_id: str) -> str:
    """Core NATS, owner to whoever watches: ``NumberedEntry`` as it is appended, ``RunDelta`` in between."""
    return f"{PREFIX}.runs.live.{token(run_id)}"


def ledger_partition(run_id: str) -> int:
    return zlib.crc32(run_id.encode()) % LEDGER_PARTITIONS


def ledger_stream(partition: int) -> str:
    return f"{STREAM_LEDGER}_{partition}"


def ledger_all(partition: int) -> str:
    """What ``ledger_stream(partition)`` binds."""
    return f"{PREFIX}.ledger.{partition}.*"


def ledger(partition: int | str, run_id: str) -> str:
    """The one subject of a run's ledger; ``partition`` is ``ledger_partition(run_id)``."""
    return f"{PREFIX}.ledger.{partition}.{token(run_id)}"


def parked(stream: str, durable: str, job_id: str) -> str:
    return f"{PREFIX}.parked.{token(stream)}.{token(durable)}.{token(job_id)}"


def event_accepted(request_id: str) -> str:
    return f"{PREFIX}.events.accepted.{token(request_id)}"


def event_terminal(request_id: str) -> str:
    """A subject of its own, written with expected last sequence 0: exactly one terminal record can win."""
    return f"{PREFIX}.events.terminal.{token(request_id)}"


def holder(instance: str) -> str:
    """Request to one instance: ``HolderQuery``; reply: ``HolderAnswered``. Nobody answers for one that is gone."""
    return f"{PREFIX}.holders.{token(instance)}"


def spans(service: str) -> str:
    return f"{PREFIX}.spans.{token(service)}"
