"""However often an answer is interrupted, the client is given each piece of it once and in order."""

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.blobs import INLINE_MAX_BYTES, BlobRef
from schemas.chat import ChatDelta, ToolCallDelta
from shared.calls.progress import Progress

PADDING = 32 * 1024
"""Bytes of ``resume`` per character here, so that a few characters cross the bound for inline prefixes."""

letters = st.text(alphabet="abc", max_size=14)


def pieces(answer: list[tuple[str, str]], start: int, cuts: list[int]) -> list[ChatDelta]:
    """The rest of an answer behind ``start`` characters, in deltas of the given sizes."""
    deltas: list[ChatDelta] = []
    position = start
    while position < len(answer):
        size = max(1, cuts[len(deltas) % len(cuts)])
        part = answer[position : position + size]
        deltas.append(
            ChatDelta(
                reasoning="".join(text for channel, text in part if channel == "r"),
                content="".join(text for channel, text in part if channel == "c"),
                tool_calls=(
                    ToolCallDelta(index=0, arguments="".join(text for channel, text in part if channel == "t")),
                ),
                resume=b"".join(position.to_bytes(2, "big") * (PADDING // 2) for position in range(len(part))),
            )
        )
        position += len(part)
    return deltas


@given(
    reasoning=letters,
    content=letters,
    arguments=letters,
    cuts=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    kept=st.lists(st.integers(0, 12), max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_interruptions_do_not_show(
    reasoning: str, content: str, arguments: str, cuts: list[int], kept: list[int]
) -> None:
    answer = [*(("r", x) for x in reasoning), *(("c", x) for x in content), *(("t", x) for x in arguments)]
    progress = Progress()
    stored: dict[str, bytes] = {}
    given_out: list[ChatDelta] = []
    for attempt, limit in enumerate([*kept, len(answer) + 1]):
        resume = progress.begin_attempt()
        data = stored[resume.key] if isinstance(resume, BlobRef) else resume
        sizes = cuts[attempt % len(cuts) :] + cuts[: attempt % len(cuts)]
        for delta in pieces(answer, len(data) // PADDING, sizes)[:limit]:
            fresh = progress.add(delta)
            given_out += [fresh] if fresh is not None else []
            if progress.checkpoint_due:
                snapshot = progress.snapshot()
                ref = BlobRef(key=f"sha256/{len(stored)}", size_bytes=len(snapshot))
                stored[ref.key] = snapshot
                progress.checkpoint(ref)
    assert "".join(delta.reasoning for delta in given_out) == reasoning
    assert "".join(delta.content for delta in given_out) == content
    assert "".join(call.arguments for delta in given_out for call in delta.tool_calls) == arguments


def test_small_prefixes_are_inline_and_exact() -> None:
    progress = Progress()
    assert progress.begin_attempt() == b""
    progress.add(ChatDelta(content="a", resume=b"1"))
    progress.add(ChatDelta(content="b", resume=b"2"))
    assert progress.begin_attempt() == b"12"
    assert progress.add(ChatDelta(content="b", resume=b"3")) == ChatDelta(content="b")


def test_a_delta_that_only_moves_on_is_not_given_out() -> None:
    progress = Progress()
    assert progress.add(ChatDelta(resume=b"1")) is None
    assert progress.begin_attempt() == b"1"


def test_large_prefixes_are_references() -> None:
    progress = Progress()
    progress.add(ChatDelta(content="a", resume=bytes(INLINE_MAX_BYTES)))
    assert progress.checkpoint_due
    ref = BlobRef(key="sha256/0", size_bytes=len(progress.snapshot()))
    progress.checkpoint(ref)
    progress.add(ChatDelta(content="b", resume=b"1"))
    assert progress.begin_attempt() == ref
    assert progress.add(ChatDelta(content="bc", resume=b"12")) == ChatDelta(content="c")
