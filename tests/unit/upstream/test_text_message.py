"""Messages written once: a request made of them is the one that would be written anew."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas.blobs import BlobRef
from schemas.chat import ChatRequest, MediaPart, Message, TextPart, ToolCall
from services.upstream.translate import encode_request, media_parts, request_body, text_message

PICTURE = MediaPart(kind="image", source=BlobRef(key="sha256/x", size_bytes=1), name="chart.png")
CALLS = st.lists(st.builds(ToolCall, id=st.text(), name=st.text(min_size=1), arguments=st.text()), max_size=2)
MESSAGES = st.lists(
    st.builds(
        Message,
        role=st.sampled_from(["system", "user", "assistant", "tool"]),
        content=st.lists(st.one_of(st.builds(TextPart, text=st.text()), st.just(PICTURE)), max_size=3).map(tuple),
        reasoning=st.one_of(st.none(), st.text()),
        tool_calls=CALLS.map(tuple),
        tool_call_id=st.one_of(st.none(), st.text()),
    ),
    max_size=8,
)


def sent(messages: list[Message], written: list[msgspec.Raw | None]) -> Any:
    media = [[{"type": "image_url", "image_url": {"url": "data:x"}}] for _ in media_parts(messages)]
    chat = ChatRequest(model="m", messages=(b"",))
    body = request_body(chat, messages, media, model="m", tools=[], response_format=None, thinking={}, written=written)
    return msgspec.json.decode(encode_request(body, stream=True))


@given(MESSAGES)
def test_kept_messages_make_the_same_request(messages: list[Message]) -> None:
    assert sent(messages, [text_message(message) for message in messages]) == sent(messages, [])
