"""Messages and tools to turns of segments: the K2.6 chat template (reference page section 5), and what all share.

Three modes: thinking, instant (``thinking=False``) and preserved thinking; and ``partial``, where the answer continues
the last message. Knows nothing of token ids, manifests or the wire.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from schemas.chat import MediaPart, Message, TextPart, ToolCall
from shared.language import specials
from shared.language.call_ids import with_native_ids
from shared.language.segments import Marker, MediaSlot, Segment, Text
from shared.language.tool_declarations import declare

Turn = list[Segment]


class Template(Protocol):
    """One turn per message or several together, before them the tools, and last the opening of the answer."""

    def __call__(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]],
        /,
        *,
        thinking: bool,
        preserve_thinking: bool,
    ) -> list[Turn]:
        """``messages`` have native tool-call ids."""
        ...


_IM_END = Marker(specials.IM_END)
_IM_MIDDLE = Marker(specials.IM_MIDDLE)
_THINK = Marker(specials.THINK)
_END_THINK = Marker(specials.END_THINK)
_ROLE_MARKERS = {"user": Marker(specials.IM_USER), "assistant": Marker(specials.IM_ASSISTANT)}


def k26_template(
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]],
    /,
    *,
    thinking: bool,
    preserve_thinking: bool,
) -> list[Turn]:
    """The ``Template`` of Kimi K2.5 and K2.6."""
    turns: list[Turn] = []
    if tools:
        turns.append([*header("system", "tool_declare"), Text(declare(tools)), _IM_END])
    last_of_history = -1 if preserve_thinking else _last_answer(messages)
    media = media_indices(messages)
    for position, message in enumerate(messages):
        keep = thinking and position > last_of_history
        turns.append([*header(message.role, message.name), *_body(message, keep, media), _IM_END])
    opening = (_THINK,) if thinking else (_THINK, _END_THINK)
    turns.append([*header("assistant", None), *opening])
    return turns


def render(
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] = (),
    *,
    template: Template = k26_template,
    thinking: bool = True,
    preserve_thinking: bool = False,
    partial: bool = False,
) -> list[Turn]:
    """The whole prompt. ``partial``: the last message is the assistant's, and the answer continues it."""
    named = with_native_ids(messages)
    history, unfinished = (named[:-1], named[-1]) if partial else (named, None)
    turns = template(history, tools, thinking=thinking, preserve_thinking=preserve_thinking)
    if unfinished is not None:
        turns[-1] = _continued(turns[-1], unfinished)
    return turns


def opens_reasoning(turns: Sequence[Turn]) -> bool:
    """Whether what the model writes first is reasoning."""
    for segment in reversed(turns[-1]):
        if segment == _THINK:
            return True
        if segment in (_END_THINK, _IM_MIDDLE):
            return False
    return False


def header(role: str, name: str | None) -> Turn:
    return [_ROLE_MARKERS.get(role, Marker(specials.IM_SYSTEM)), Text(name or role), _IM_MIDDLE]


def media_indices(messages: Sequence[Message]) -> Iterator[int]:
    """Numbers of the media parts, in order."""
    return iter(range(sum(isinstance(part, MediaPart) for message in messages for part in message.content)))


def text_of(message: Message) -> str:
    return "".join(part.text for part in message.content if isinstance(part, TextPart))


def _continued(opening: Turn, message: Message) -> Turn:
    """The opening with the beginning of an answer. Without content, it is the reasoning that goes on."""
    turn = _named(opening, message.name) if message.name else list(opening)
    text = text_of(message)
    if opens_reasoning([turn]):
        turn.append(Text(message.reasoning or ""))
        turn += [_END_THINK] if text else []
    return [*turn, Text(text)]


def _named(opening: Turn, name: str) -> Turn:
    middle = max(place for place, segment in enumerate(opening) if segment == _IM_MIDDLE)
    return [*opening[: middle - 1], Text(name), *opening[middle:]]


def _last_answer(messages: Sequence[Message]) -> int:
    """Index of the last assistant message without tool calls: up to there reasoning is history and dropped."""
    answers = (i for i, message in enumerate(messages) if message.role == "assistant" and not message.tool_calls)
    return max(answers, default=-1)


def _body(message: Message, keep_reasoning: bool, media: Iterator[int]) -> Iterator[Segment]:
    if message.role == "assistant":
        reasoning = message.reasoning if keep_reasoning else ""
        yield from (_THINK, Text(reasoning or ""), _END_THINK)
    elif message.role == "tool":
        yield Text(f"## Return of {message.tool_call_id or ''}\n")
    for part in message.content:
        if isinstance(part, TextPart):
            yield Text(part.text)
        else:
            yield from (MediaSlot(part.kind, next(media)), Text("\n"))
    if message.role == "assistant" and message.tool_calls:
        yield from _tool_calls(message.tool_calls)


def _tool_calls(calls: Sequence[ToolCall]) -> Iterator[Segment]:
    yield Marker(specials.TOOL_SECTION_BEGIN)
    for call in calls:
        yield from (Marker(specials.TOOL_CALL_BEGIN), Text(call.id))
        yield from (Marker(specials.TOOL_ARGUMENT_BEGIN), Text(call.arguments), Marker(specials.TOOL_CALL_END))
    yield Marker(specials.TOOL_SECTION_END)
