"""The ``chat_template.jinja`` of a checkpoint as a ``Template``: special tokens arise from the template only.

Input: its source and the names of the special tokens. Output: turns of segments. In every text of a request each
character that could begin a special token is followed by a guard, a character that the request does not contain; what
was rendered is cut at the names of special tokens, and the guards are taken out. Knows nothing of token ids.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from schemas.chat import MediaPart, Message, TextPart, ToolCall
from shared.errors import BadInput
from shared.language import specials
from shared.language.sandbox import BoundedTemplate, TemplateFailed
from shared.language.segments import Marker, MediaSlot, Segment, Text
from shared.language.template import Turn, text_of
from shared.language.tool_declarations import sorted_deep, typescript

VIDEO_PLACEHOLDER = "<|kimi_k25_video_placeholder|>"
"""What a released template writes for a video; no token."""

_PRIVATE_USE = re.compile("[\ue000-\uf8ff]")
_CHARS_BESIDES = 1_000_000
"""What a template may write besides the texts it is given."""
_IMAGE = [Marker(specials.MEDIA_CONTENT), Marker(specials.MEDIA_PAD), Marker(specials.MEDIA_END)]


class CheckpointTemplate:
    def __init__(self, source: str, special_names: Iterable[str]) -> None:
        """Raises BadInput (``checkpoint.template``) for a source that does not compile."""
        names = sorted({*special_names, *specials.OLDER_NAMES, VIDEO_PLACEHOLDER}, key=len, reverse=True)
        self._names = re.compile("(" + "|".join(map(re.escape, names)) + ")")
        self._beginnings = sorted({name[0] for name in names})
        try:
            self._template = BoundedTemplate(source)
        except TemplateFailed as error:
            raise BadInput("checkpoint.template", f"chat_template.jinja does not compile: {error}") from error

    def __call__(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]],
        /,
        *,
        thinking: bool,
        preserve_thinking: bool,
    ) -> list[Turn]:
        """All turns in one. Raises BadInput where the template refuses the conversation or loses a part of it."""
        values: dict[str, Any] = {
            "messages": [_plain(message) for message in messages],
            "tools": sorted_deep(tools) or None,
            "tools_ts_str": typescript(tools) if tools else None,
        }
        guard = _unused(values)
        switches = {"thinking": thinking, "preserve_thinking": preserve_thinking, "add_generation_prompt": True}
        text = self._render({**self._guarded(values, guard), **switches})
        segments = [self._segment(piece, guard) for piece in self._names.split(text) if piece]
        return [list(_with_slots(segments, _kinds(messages)))]

    def _render(self, values: dict[str, Any]) -> str:
        given = sum(len(text) for text in _texts(values))
        try:
            return self._template.render(values, max_chars=2 * given + _CHARS_BESIDES)
        except TemplateFailed as error:
            raise _refusal("the checkpoint's chat template cannot say this conversation") from error

    def _guarded(self, value: Any, guard: str) -> Any:
        if isinstance(value, str):
            for beginning in self._beginnings:
                value = value.replace(beginning, beginning + guard)
            return value
        if isinstance(value, Mapping):
            return {self._guarded(key, guard): self._guarded(item, guard) for key, item in value.items()}
        return [self._guarded(item, guard) for item in value] if isinstance(value, list) else value

    def _segment(self, piece: str, guard: str) -> Segment:
        if self._names.fullmatch(piece):
            return Marker(specials.OLDER_NAMES.get(piece, piece))
        return Text(piece.replace(guard, ""))


def _plain(message: Message) -> dict[str, Any]:
    """As in the HTTP interface. No field is None, which templates would print."""
    plain: dict[str, Any] = {"role": message.role, "content": _content(message)}
    if message.name:
        plain["name"] = message.name
    if message.role == "assistant":
        plain["reasoning_content"] = message.reasoning or ""
    if message.tool_calls:
        plain["tool_calls"] = [_plain_call(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    return plain


def _content(message: Message) -> Any:
    if all(isinstance(part, TextPart) for part in message.content):
        return text_of(message)
    return [
        {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": part.kind}
        for part in message.content
    ]


def _plain_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _unused(values: Any) -> str:
    """A private-use character that no text contains."""
    used = {character for text in _texts(values) if not text.isascii() for character in _PRIVATE_USE.findall(text)}
    guard = next((chr(code) for code in range(0xE000, 0xF900) if chr(code) not in used), "")
    if not guard:
        raise _refusal("the conversation uses every private-use character")
    return guard


def _kinds(messages: Sequence[Message]) -> list[str]:
    return [part.kind for message in messages for part in message.content if isinstance(part, MediaPart)]


def _with_slots(segments: list[Segment], kinds: Sequence[str]) -> Iterator[Segment]:
    """Media as slots, in the order of the conversation."""
    place, index = 0, 0
    while place < len(segments):
        kind, length = _media_at(segments, place)
        if not kind:
            yield segments[place]
        elif index < len(kinds) and kind == kinds[index]:
            yield MediaSlot(kind, index)  # type: ignore[arg-type]
            index += 1
        else:
            raise _refusal("the checkpoint's chat template does not keep images and videos in order")
        place += length
    if index < len(kinds):
        raise _refusal("the checkpoint's chat template leaves out images or videos")


def _media_at(segments: list[Segment], place: int) -> tuple[str, int]:
    """(kind, how many segments it takes), or ("", 1)."""
    segment = segments[place]
    if segment == Marker(VIDEO_PLACEHOLDER):
        return "video", 1
    if segment == Marker(specials.MEDIA_BEGIN) and segments[place + 2 : place + 5] == _IMAGE:
        return "image", 5
    return "", 1


def _refusal(message: str) -> BadInput:
    return BadInput("chat.template", message, param="messages")
