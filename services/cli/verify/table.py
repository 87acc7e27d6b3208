"""The one table of checks: name, promise, severity, and whether an endpoint may openly not offer it."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from services.cli.verify import (
    answers,
    choices,
    errors,
    finishes,
    formats,
    latency,
    media,
    refusals,
    streams,
    tools,
    usage,
)
from services.cli.verify.probe import Probe

Severity = Literal["critical", "major", "minor"]
"""critical: clients get wrong answers. major: something is missing or misleading. minor: it can be worked around."""


@dataclass(frozen=True)
class Check:
    name: str
    """``topic.promise``."""
    promise: str
    run: Callable[[Probe], Awaitable[Any]]
    """Returns what it measured, a JSON value or None. Raises a Verdict."""
    severity: Severity
    optional: bool = False
    """Whether a clear refusal means "not offered"."""


CHECKS: tuple[Check, ...] = (
    Check("models.list", "GET /models lists the model", answers.models, "minor"),
    Check("chat.plain", "an answer has OpenAI's shape", answers.plain, "critical"),
    Check("tools.schemas", "arguments fit the schema, for every schema", tools.schemas, "critical", optional=True),
    Check("tools.shape", "calls have ids, types and JSON text", tools.shape, "critical", optional=True),
    Check("tools.streamed", "streamed calls are the unstreamed ones", tools.streamed, "critical", optional=True),
    Check("tools.turn", "a call and its result can be sent back", tools.turn, "critical", optional=True),
    Check("choice.none", "tool_choice none: nothing is called", choices.none, "major", optional=True),
    Check("choice.auto", "tool_choice auto: called when asked for, else not", choices.auto, "major", optional=True),
    Check("choice.required", "tool_choice required: something is called", choices.required, "major", optional=True),
    Check("choice.named", "tool_choice by name: that tool is called", choices.by_name, "major", optional=True),
    Check("format.json_object", "json_object: the answer is one", formats.json_object, "major", optional=True),
    Check("format.json_schema", "json_schema: the answer fits", formats.json_schema, "critical", optional=True),
    Check("streams.protocol", "a stream is events, chunks, one id, [DONE]", streams.protocol, "critical"),
    Check("streams.repeatable", "temperature 0: the same answer again", streams.repeatable, "minor"),
    Check(
        "streams.equal", "a stream says what the unstreamed answer says, at each concurrency", streams.equal, "critical"
    ),
    *(
        Check(f"refusals.{bad.name}", f"refused by name: {bad.promise}", refusals.refusal(bad), "minor")
        for bad in refusals.ROWS
    ),
    Check("refusals.malformed_json", "refused by name: a body that is no JSON", refusals.malformed_json, "minor"),
    Check("refusals.streamed", "a refused stream is a 4xx, not an event", refusals.streamed, "major"),
    Check("media.image", "an image is taken and seen", media.image, "major", optional=True),
    Check("media.video", "a video is taken and seen", media.video, "major", optional=True),
    Check("media.broken_image", "an image that is none is refused", media.broken_image, "minor"),
    Check("usage.total", "prompt + completion = total", usage.total, "major"),
    Check("usage.limit", "completion tokens keep to the limit", usage.limit, "major"),
    Check("usage.streamed", "usage of a stream is the unstreamed one", usage.streamed, "major", optional=True),
    Check("errors.key", "401 for a wrong key, in OpenAI's shape", errors.key, "minor"),
    Check("errors.model", "404 for an unknown model, in OpenAI's shape", errors.model, "minor"),
    Check("errors.path", "404 for an unknown path, in OpenAI's shape", errors.path, "minor"),
    Check("errors.method", "405 for a wrong method, in OpenAI's shape", errors.method, "minor"),
    Check("finish.stop", "finish_reason stop for an answer that ends", finishes.stop, "major"),
    Check("finish.length", "finish_reason length for one that is cut", finishes.length, "major"),
    Check("finish.tool_calls", "finish_reason tool_calls for a call", finishes.tool_calls, "major", optional=True),
    Check("finish.streamed", "one finish reason in a stream, the right one", finishes.streamed, "major"),
    Check("finish.stop_string", "an answer ends before its stop string", finishes.stop_string, "major", optional=True),
    Check("latency.tokens", "first token and time between tokens (reported)", latency.tokens, "minor"),
)


def chosen(names: Iterable[str], table: Sequence[Check] = CHECKS) -> tuple[Check, ...]:
    """By name or topic, in the order of the table; all when none is named. Raises ValueError naming the unknown."""
    wanted = set(names)
    known = {check.name for check in table} | {_topic(check) for check in table}
    if wanted - known:
        raise ValueError(f"no such check: {', '.join(sorted(wanted - known))}")
    return tuple(check for check in table if not wanted or {check.name, _topic(check)} & wanted)


def _topic(check: Check) -> str:
    return check.name.partition(".")[0]
