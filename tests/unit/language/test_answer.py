"""The answer parser: parts, stop strings and tool calls, the same for every way of cutting the ids."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.chat import ChatDelta, ToolCall
from shared.language import specials
from shared.language.answer import AnswerParser
from shared.language.vocabulary import Vocabulary, tiny_vocabulary

VOCABULARY = Vocabulary(tiny_vocabulary())
_MARKER = re.compile("|".join(map(re.escape, specials.OFFSETS)))


def ids_of(script: str) -> list[int]:
    """Ids of a transcript in which every marker is meant as a special token."""
    result: list[int] = []
    position = 0
    for match in _MARKER.finditer(script):
        result += VOCABULARY.encode(script[position : match.start()]).tolist()
        result.append(VOCABULARY.special(match.group()))
        position = match.end()
    return result + VOCABULARY.encode(script[position:]).tolist()


def assembled(deltas: list[ChatDelta]) -> tuple[str, str, list[ToolCall]]:
    calls: dict[int, ToolCall] = {}
    for delta in deltas:
        for piece in delta.tool_calls:
            if piece.index not in calls:
                assert piece.index == len(calls)
                calls[piece.index] = ToolCall(id=piece.id, name=piece.name, arguments="")
            call = calls[piece.index]
            calls[piece.index] = ToolCall(id=call.id, name=call.name, arguments=call.arguments + piece.arguments)
    return "".join(d.reasoning for d in deltas), "".join(d.content for d in deltas), list(calls.values())


def parsed(ids: list[int], *, thinking: bool = True, stop: tuple[str, ...] = ()) -> tuple[str, str, list[ToolCall]]:
    parser = AnswerParser(VOCABULARY, thinking=thinking, stop=stop)
    return assembled([parser.push(ids), parser.finish()])


def test_reasoning_ends_at_its_marker() -> None:
    assert parsed(ids_of("I look.</think>It is a boat.")) == ("I look.", "It is a boat.", [])


def test_without_thinking_everything_is_content() -> None:
    assert parsed(ids_of("It is a boat."), thinking=False) == ("", "It is a boat.", [])


def test_markers_spelled_in_text_stay_text() -> None:
    ids = VOCABULARY.encode("a</think>b<|im_end|>").tolist()
    assert parsed(ids, thinking=False) == ("", "a</think>b<|im_end|>", [])


def test_other_specials_vanish() -> None:
    assert parsed(ids_of("<think>a<|im_user|></think>b</think>c[UNK]d")) == ("a", "bcd", [])


CALLS = (
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:3<|tool_call_argument_begin|>"
    ' {"city": "Paris"}\n<|tool_call_end|><|tool_call_begin|>functions.find:4<|tool_call_argument_begin|>{}'
    "<|tool_call_end|><|tool_calls_section_end|>"
)
EXPECTED = [
    ToolCall(id="functions.get_weather:3", name="get_weather", arguments='{"city": "Paris"}'),
    ToolCall(id="functions.find:4", name="find", arguments="{}"),
]


def test_tool_calls() -> None:
    assert parsed(ids_of("hm</think>I call." + CALLS)) == ("hm", "I call.", EXPECTED)


def test_reasoning_may_end_at_the_tool_section() -> None:
    assert parsed(ids_of("hm" + CALLS)) == ("hm", "", EXPECTED)


def test_text_after_the_section_is_content() -> None:
    assert parsed(ids_of("</think>" + CALLS + "done")) == ("", "done", EXPECTED)


def test_a_missing_section_end_and_a_truncated_call_keep_what_there_is() -> None:
    script = '</think><|tool_calls_section_begin|><|tool_call_begin|>functions.find:0<|tool_call_argument_begin|>{"a'
    assert parsed(ids_of(script)) == ("", "", [ToolCall(id="functions.find:0", name="find", arguments='{"a')])
    assert cut_off(script) == [0]


HEAD = "</think><|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>"
END = "<|tool_call_end|><|tool_calls_section_end|>"


def cut_off(script: str) -> list[int]:
    """Indices of the calls that are marked incomplete."""
    parser = AnswerParser(VOCABULARY, thinking=True)
    deltas = [parser.push(ids_of(script)), parser.finish()]
    found = [call.index for delta in deltas for call in delta.tool_calls if call.incomplete]
    assert parser.has_incomplete_call == bool(found)
    return found


@pytest.mark.parametrize(
    ("script", "arguments", "incomplete"),
    [
        (HEAD + '{"a": 1}' + END, '{"a": 1}', []),
        (HEAD + '{"a": 1}', '{"a": 1}', []),
        (HEAD + '{"a": 1', '{"a": 1', [0]),
        (HEAD + '{"a": "x' + END, '{"a": "x', [0]),
        (HEAD + END, "{}", []),
        (HEAD, "", [0]),
        (HEAD.removesuffix("<|tool_call_argument_begin|>"), "", [0]),
        (HEAD.removesuffix("<|tool_call_argument_begin|>") + END, "", [0]),
    ],
)
def test_every_call_ends_in_a_defined_way(script: str, arguments: str, incomplete: list[int]) -> None:
    assert parsed(ids_of(script))[2] == [ToolCall(id="functions.f:0", name="f", arguments=arguments)]
    assert cut_off(script) == incomplete


def test_an_escape_reaches_over_white_space_that_was_held_back() -> None:
    arguments = '{"\\ \\"": 1}'
    ids = [token for character in arguments for token in ids_of(character)]
    parser = AnswerParser(VOCABULARY, thinking=True)
    assert assembled([parser.push(ids_of(HEAD)), *(parser.push([token]) for token in ids)])[2][0].arguments == arguments
    parser.finish()
    assert not parser.has_incomplete_call


def test_a_call_without_a_name_is_no_silence() -> None:
    script = "</think><|tool_calls_section_begin|><|tool_call_begin|><|tool_call_end|>"
    assert parsed(ids_of(script))[2] == [ToolCall(id="call_0", name="", arguments="")]
    assert cut_off(script) == [0]


def test_text_between_calls_is_content() -> None:
    script = HEAD + "{}<|tool_call_end|>\n so, <|tool_call_begin|>functions.g:1<|tool_call_argument_begin|>{}" + END
    _, content, calls = parsed(ids_of(script))
    assert content == "so, "
    assert [call.name for call in calls] == ["f", "g"]


@pytest.mark.parametrize("marker", [*specials.TOOL_MARKERS, specials.THINK, specials.END_THINK])
def test_a_marker_that_a_model_writes_inside_a_string_is_text(marker: str) -> None:
    if marker == specials.TOOL_CALL_BEGIN:
        pytest.skip("a call never spans the beginning of another one")
    arguments = '{"a": "' + marker + ' is a marker, \\"really\\""}'
    assert parsed(ids_of(HEAD + arguments + END))[2] == [ToolCall(id="functions.f:0", name="f", arguments=arguments)]


def test_a_marker_inside_an_argument_string_is_text() -> None:
    head = ids_of("</think><|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>")
    text = '{"a": "<|tool_call_end|>"}'
    ids = head + VOCABULARY.encode(text).tolist() + ids_of("<|tool_call_end|>")
    assert parsed(ids)[2] == [ToolCall(id="functions.f:0", name="f", arguments=text)]


def test_arguments_are_passed_on_as_they_come() -> None:
    parser = AnswerParser(VOCABULARY, thinking=False)
    parser.push(ids_of("<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>"))
    for character in '{"a":1}':
        (delta,) = parser.push(ids_of(character)).tool_calls
        assert delta.arguments == character


@pytest.mark.parametrize(
    ("text", "stop", "content"),
    [
        ("one two three", ("two",), "one "),
        ("one two three", ("three", "e t"), "on"),
        ("one two", ("twofold",), "one two"),
        ("aab", ("ab",), "a"),
        ("abc", ("",), "abc"),
    ],
)
def test_stop_strings(text: str, stop: tuple[str, ...], content: str) -> None:
    ids = [token for character in text for token in ids_of(character)]
    assert parsed(ids, thinking=False, stop=stop)[1] == content


def test_nothing_behind_a_stop_string_is_consumed() -> None:
    parser = AnswerParser(VOCABULARY, thinking=True, stop=("b",))
    parser.push([*ids_of("b</think>"), *VOCABULARY.encode("b").tolist(), *ids_of("more")])
    assert parser.stopped
    assert parser.consumed == 3
    assert parser.reasoning_tokens == 1


def test_only_what_a_stop_string_could_need_is_held_back() -> None:
    parser = AnswerParser(VOCABULARY, thinking=False, stop=("END",))
    pieces = [parser.push(VOCABULARY.encode(character).tolist()).content for character in "aENxEN"]
    assert pieces == ["a", "", "", "ENx", "", ""]
    assert parser.finish().content == "EN"


_TOKENS = st.one_of(
    st.integers(0, VOCABULARY.size - 1),
    st.sampled_from([VOCABULARY.special(name) for name in (*specials.TOOL_MARKERS, specials.END_THINK)]),
    st.sampled_from(VOCABULARY.encode(" stop the END {}\n").tolist()),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_TOKENS, max_size=40), st.data(), st.booleans())
def test_every_way_of_cutting_and_resuming_gives_the_same(ids: list[int], data: st.DataObject, thinking: bool) -> None:
    stop = ("END", " st")
    whole = parsed(ids, thinking=thinking, stop=stop)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=5)))
    deltas: list[ChatDelta] = []
    parser = AnswerParser(VOCABULARY, thinking=thinking, stop=stop)
    for start, end in zip([0, *cuts], [*cuts, len(ids)], strict=True):
        deltas.append(parser.push(ids[start:end]))
        if data.draw(st.booleans()):  # the process dies here; another one replays what was consumed
            consumed = parser.consumed
            parser = AnswerParser(VOCABULARY, thinking=thinking, stop=stop)
            parser.push(ids[:consumed])
            assert parser.consumed == consumed
    deltas.append(parser.finish())
    assert assembled(deltas) == whole
    assert not any(name in whole[0] + whole[1] for name in specials.OFFSETS)
