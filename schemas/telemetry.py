"""Every span, attribute and metric name, and how spans travel. A name is written here before it is used.

Attribute names follow the OpenTelemetry GenAI and messaging conventions where those have one.
"""

import msgspec

from schemas.request import Principal

# Spans.
SPAN_HTTP_CHAT = "POST /v1/chat/completions"
SPAN_HTTP_RUN = "POST /v1/runs"
SPAN_UPLOAD = "store upload"
SPAN_CHAT = "chat"
SPAN_COUNT = "count tokens"
SPAN_WAIT_MEDIA = "wait media"
SPAN_RENDER = "render prompt"
SPAN_GENERATE = "generate"
SPAN_ENCODE_MEDIA = "encode media"
SPAN_PREFILL = "prefill"
SPAN_DECODE = "decode"
SPAN_PREPARE_MEDIA = "prepare media"
SPAN_DECODE_MEDIA = "decode media"
SPAN_ENDPOINT = "ask endpoint"
SPAN_TOOL = "execute_tool"
"""The operation; the span's name says the tool too: ``tool_span``."""
SPAN_SUBMIT_RUN = "submit run"
SPAN_AGENT = "invoke_agent"
"""One owner's part of a run; all parts are in the run's trace."""
SPAN_AGENT_STEP = "agent step"

# Attributes.
ATTR_REQUEST_ID = "moontide.request.id"
ATTR_TENANT = "moontide.tenant"
"""On every span of a request: the recorder shows a tenant its own spans and no others."""
ATTR_KEY_ID = "moontide.key.id"
ATTR_USAGE_COUNTS = "moontide.usage.counts"
"""True on the span of whoever holds the request, with the tokens that its key is charged with. Retries, choices and
services further down have token counts too, which are not counted again."""
ATTR_RUN_ID = "moontide.run.id"
ATTR_RUN_STEP = "moontide.run.step"
ATTR_RUN_TERM = "moontide.run.term"
ATTR_RUN_OUTCOME = "moontide.run.outcome"
ATTR_USAGE_ESTIMATED = "moontide.usage.estimated"
"""True where an answer was broken off, so that nobody counted its tokens: they are judged by its length."""
ATTR_ATTEMPT_NUMBER = "moontide.attempt.number"
ATTR_FAILURE_CODE = "moontide.failure.code"
ATTR_MEDIA_KIND = "moontide.media.kind"
ATTR_MEDIA_TOKENS = "moontide.media.tokens"
ATTR_MEDIA_FRAMES = "moontide.media.frame.count"
ATTR_MEDIA_CACHED = "moontide.media.cached"
ATTR_UPSTREAM_DETAIL = "moontide.upstream.detail"
"""What a foreign endpoint said of its refusal, shortened, its key removed."""
ATTR_MODEL = "gen_ai.request.model"
ATTR_OPERATION = "gen_ai.operation.name"
ATTR_INPUT_TOKENS = "gen_ai.usage.input_tokens"
ATTR_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
ATTR_CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
ATTR_FINISH_REASONS = "gen_ai.response.finish_reasons"
ATTR_TOOL_NAME = "gen_ai.tool.name"
ATTR_TOOL_CALL_ID = "gen_ai.tool.call.id"
"""Ours, which is the call's idempotency key."""
ATTR_RUN_ID = "moontide.run.id"
ATTR_RUN_STEP = "moontide.run.step"
ATTR_RUN_TERM = "moontide.run.term"
ATTR_RUN_OUTCOME = "moontide.run.outcome"
ATTR_ERROR_TYPE = "error.type"
ATTR_HTTP_STATUS = "http.response.status_code"
ATTR_SPAN_CANCELLED = "moontide.span.cancelled"
"""True on a span whose work nobody wanted any more (OpenTelemetry has no such status)."""
ATTR_SPAN_REPARENTED = "moontide.span.reparented"
"""True on a span that the recorder attached under the root, since its parent never arrived."""


def tool_span(tool: str) -> str:
    """As the GenAI conventions name it."""
    return f"{SPAN_TOOL} {tool}"


AttributeValue = str | bool | int | float | tuple[str, ...]


class SpanStarted(msgspec.Struct, frozen=True, kw_only=True, tag="span.started"):
    """Published before any message that carries the span's context leaves the process."""

    trace_id: str
    span_id: str
    parent_span_id: str = ""
    name: str
    kind: str
    service: str
    instance: str
    start_unix_nanoseconds: int
    attributes: dict[str, AttributeValue] = {}


class SpanEvent(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    time_unix_nanoseconds: int
    attributes: dict[str, AttributeValue] = {}


class SpanEnded(msgspec.Struct, frozen=True, kw_only=True, tag="span.ended"):
    """Complete in itself, so that a lost start costs nothing."""

    trace_id: str
    span_id: str
    parent_span_id: str = ""
    name: str
    kind: str
    service: str
    instance: str
    start_unix_nanoseconds: int
    end_unix_nanoseconds: int
    status: str
    """``ok``, ``error`` or ``cancelled``."""
    status_message: str = ""
    attributes: dict[str, AttributeValue] = {}
    events: tuple[SpanEvent, ...] = ()


class ProcessBeat(msgspec.Struct, frozen=True, kw_only=True, tag="process.beat"):
    """Every service, every second. Open spans of an instance that stopped beating are closed as lost."""

    service: str
    instance: str
    time_unix_nanoseconds: int
    ending: bool = False


SpanMessage = SpanStarted | SpanEnded | ProcessBeat


class TraceQuery(msgspec.Struct, frozen=True, kw_only=True, tag="trace.query"):
    """``id`` is a trace id (32 hex digits) or a request id. Answered are the spans of the principal's tenant; the local
    principal sees all."""

    id: str
    principal: Principal = Principal()


class TraceSpan(msgspec.Struct, frozen=True, kw_only=True):
    """A span as the recorder answers it. ``status``: ok, error, cancelled, lost (its process died) or running."""

    span_id: str
    parent_span_id: str
    name: str
    kind: str
    service: str
    instance: str
    start_unix_nanoseconds: int
    end_unix_nanoseconds: int | None
    status: str
    status_message: str = ""
    attributes: dict[str, AttributeValue] = {}
    events: tuple[SpanEvent, ...] = ()


class Trace(msgspec.Struct, frozen=True, kw_only=True, tag="trace"):
    trace_id: str
    spans: tuple[TraceSpan, ...]
    """Sorted by start."""
    omitted_spans: int = 0
    """Spans left out, since the answer would have been too large for one message."""


class UsageQuery(msgspec.Struct, frozen=True, kw_only=True, tag="usage.query"):
    """Days are ``YYYY-MM-DD`` in UTC, both included. The local principal sees all tenants."""

    principal: Principal = Principal()
    first_day: str
    last_day: str
    without_instance: str = ""
    """Leaves out what this process reported: it knows that better itself."""


class UsageRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one key was charged with on one day for one model."""

    day: str
    tenant: str
    key_id: str
    model: str
    requests: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    """Of the input tokens."""


class UsageListed(msgspec.Struct, frozen=True, kw_only=True, tag="usage.listed"):
    rows: tuple[UsageRow, ...]
    """Sorted by day, key and model."""
    omitted_rows: int = 0
    """Rows left out, the latest ones, since the answer would have been too large for one message."""
