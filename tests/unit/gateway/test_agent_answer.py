"""Whatever of a run is heard live, its reader gets the same answer."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.chat import Message, TextPart, ToolCall
from schemas.runs import RunDelta
from services.gateway.agent_answer import HELD_CHARACTERS, AgentAnswer, Piece

CALL = ToolCall(id="python:0", name="python", arguments="{}")
LONG = "word " * 100


def message(reasoning: str, content: str, calls: bool) -> Message:
    parts = (TextPart(text=content),) if content else ()
    return Message(role="assistant", reasoning=reasoning or None, content=parts, tool_calls=(CALL,) if calls else ())


def texts(pieces: list[Piece]) -> tuple[str, str]:
    return "".join(piece.reasoning for piece in pieces), "".join(piece.content for piece in pieces)


def whole(steps: list[tuple[str, str]]) -> tuple[str, str]:
    answer, pieces = AgentAnswer(), []
    for number, (reasoning, content) in enumerate(steps, 1):
        pieces += answer.answered(number, message(reasoning, content, number < len(steps)))
    return texts(pieces)


steps_of_a_run = st.lists(
    st.tuples(st.sampled_from(("", "Hm.", "Let me see.")), st.sampled_from(("", "I look.", LONG))),
    min_size=1,
    max_size=4,
)


@given(steps=steps_of_a_run, draw=st.data())
def test_the_answer_is_the_same_whatever_was_heard_live(steps: list[tuple[str, str]], draw: st.DataObject) -> None:
    """Pieces of any size, some lost, repeated by later attempts from any place."""
    answer, pieces = AgentAnswer(), []
    for number, (reasoning, content) in enumerate(steps, 1):
        for _ in range(draw.draw(st.integers(0, 3))):
            at = draw.draw(st.integers(0, len(reasoning))), draw.draw(st.integers(0, len(content)))
            size = draw.draw(st.integers(0, 300))
            delta = RunDelta(
                run_id="r",
                step=number,
                reasoning=reasoning[at[0] : at[0] + size],
                content=content[at[1] : at[1] + size],
                reasoning_start=at[0],
                content_start=at[1],
            )
            pieces += answer.heard(delta)
        pieces += answer.answered(number, message(reasoning, content, number < len(steps)))
    assert texts(pieces) == whole(steps)


def test_what_is_said_beside_calls_is_reasoning_and_the_answer_is_content() -> None:
    assert whole([("Hm.", "I look."), ("Ah.", "It is 2.")]) == ("Hm.\n\nI look.\n\nAh.", "It is 2.")
    assert whole([("", LONG), ("", "It is 2.")]) == ("", f"{LONG}\n\nIt is 2.")


def test_a_long_answer_is_streamed_and_a_short_one_comes_at_once() -> None:
    answer = AgentAnswer()
    assert texts(answer.heard(RunDelta(run_id="r", step=1, content="a" * HELD_CHARACTERS))) == ("", "")
    more = RunDelta(run_id="r", step=1, content="b", content_start=HELD_CHARACTERS)
    assert texts(answer.heard(more)) == ("", "a" * HELD_CHARACTERS + "b")
    more = RunDelta(run_id="r", step=1, content="c", content_start=HELD_CHARACTERS + 1)
    assert texts(answer.heard(more)) == ("", "c")


def test_an_attempt_that_says_something_else_is_told_behind_what_the_dead_one_said() -> None:
    answer = AgentAnswer()
    pieces = answer.heard(RunDelta(run_id="r", step=1, reasoning="Perhaps"))
    pieces += answer.answered(1, message("Surely.", "Yes.", False))
    assert texts(pieces) == ("Perhaps\n\nSurely.", "Yes.")
