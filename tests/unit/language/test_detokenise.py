"""The detokeniser: what it gives, joined, is what decoding the whole gives."""

from hypothesis import given
from hypothesis import strategies as st

from shared.language.detokenise import Detokeniser

_INTERESTING = st.sampled_from(
    [b"\xe2", b"\x82", b"\xac", b"\xf0\x9f", b"\x8c\x8a", b"\xc0", b"\xed\xa0", b"a", b"\xff"]
)


@given(st.lists(st.one_of(st.binary(max_size=5), _INTERESTING, st.text(max_size=3).map(str.encode)), max_size=30))
def test_the_pieces_are_the_whole(chunks: list[bytes]) -> None:
    state = Detokeniser()
    text = "".join(state.push(chunk) for chunk in chunks) + state.finish()
    assert text == b"".join(chunks).decode("utf-8", "replace")


@given(st.text(min_size=1))
def test_a_character_is_given_with_its_last_byte(text: str) -> None:
    state = Detokeniser()
    for character in text:
        data = character.encode()
        assert [state.push(data[i : i + 1]) for i in range(len(data))] == [""] * (len(data) - 1) + [character]
    assert state.finish() == ""


def test_it_can_be_used_again_after_finish() -> None:
    state = Detokeniser()
    assert state.push(b"\xe2\x82") == ""
    assert state.finish() == "\ufffd"
    assert state.push(b"\xacok") == "\ufffdok"
