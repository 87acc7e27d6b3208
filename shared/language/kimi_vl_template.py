"""The chat template of Kimi-VL: no reasoning, no tools, images flush against the text, a default system message.

Input: messages. Output: turns of segments, as of every ``Template``. Pure.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from schemas.chat import Message, TextPart
from shared.language import specials
from shared.language.segments import Marker, MediaSlot, Segment, Text
from shared.language.template import Turn, header, media_indices

DEFAULT_SYSTEM = Message(role="system", content=(TextPart(text="You are a helpful assistant"),))


def kimi_vl_template(
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]],
    /,
    *,
    thinking: bool,
    preserve_thinking: bool,
) -> list[Turn]:
    """``tools``, ``thinking`` and ``preserve_thinking`` have no place in it."""
    media = media_indices(messages)
    system = [] if messages and messages[0].role == "system" else [DEFAULT_SYSTEM]
    turns: list[Turn] = [
        [*header(message.role, None), *_body(message, media), Marker(specials.IM_END)]
        for message in (*system, *messages)
    ]
    return [*turns, header("assistant", None)]


def _body(message: Message, media: Iterator[int]) -> Iterator[Segment]:
    for part in message.content:
        yield Text(part.text) if isinstance(part, TextPart) else MediaSlot(part.kind, next(media))
