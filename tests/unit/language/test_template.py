"""The chat template against an oracle: the same rules written as jinja2, rendered on generated conversations."""

from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.blobs import BlobRef
from schemas.chat import MediaPart, Message, Part, TextPart, ToolCall
from shared.language import specials
from shared.language.kimi_vl_template import kimi_vl_template
from shared.language.prompt import PromptEncoder
from shared.language.segments import Marker, Segment, Text
from shared.language.template import opens_reasoning, render
from shared.language.tool_declarations import declare
from shared.language.vocabulary import Vocabulary

VIDEO = "<|kimi_k25_video_placeholder|>"
IMAGE = "<|media_begin|>image<|media_content|><|media_pad|><|media_end|>"

ORACLE = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]).from_string(
    """
{%- macro head(m) -%}
{%- if m.role in ('user', 'assistant') -%}<|im_{{ m.role }}|>{%- else -%}<|im_system|>{%- endif -%}
{{ m.name or m.role }}<|im_middle|>
{%- endmacro -%}
{%- macro parts(m) -%}
{%- for p in m.parts -%}
{%- if p.kind == 'text' -%}{{ p.text }}{%- elif p.kind == 'image' -%}"""
    + IMAGE
    + "{{ '\\n' }}{%- else -%}"
    + VIDEO
    + """{{ '\\n' }}{%- endif -%}
{%- endfor -%}
{%- endmacro -%}
{%- set ns = namespace(last=-1) -%}
{%- if not preserve -%}
{%- for m in messages -%}
{%- if m.role == 'assistant' and not m.calls -%}{%- set ns.last = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- if declaration -%}<|im_system|>tool_declare<|im_middle|>{{ declaration }}<|im_end|>{%- endif -%}
{%- for m in messages -%}
{{ head(m) }}
{%- if m.role == 'assistant' -%}
<think>{% if thinking and loop.index0 > ns.last %}{{ m.reasoning }}{% endif %}</think>{{ parts(m) }}
{%- if m.calls -%}
<|tool_calls_section_begin|>
{%- for c in m.calls -%}
<|tool_call_begin|>{{ c.id }}<|tool_call_argument_begin|>{{ c.arguments }}<|tool_call_end|>
{%- endfor -%}
<|tool_calls_section_end|>
{%- endif -%}
{%- elif m.role == 'tool' -%}
## Return of {{ m.result_of }}{{ '\\n' }}{{ parts(m) }}
{%- else -%}
{{ parts(m) }}
{%- endif -%}
<|im_end|>
{%- endfor -%}
<|im_assistant|>assistant<|im_middle|>{% if thinking %}<think>{% else %}<think></think>{% endif %}
"""
)


def written(turns: list[list[Segment]]) -> str:
    """Segments as the one string that the released template would be."""

    def one(segment: Segment) -> str:
        if isinstance(segment, Marker):
            return segment.name
        if isinstance(segment, Text):
            return segment.text
        return IMAGE if segment.kind == "image" else VIDEO

    return "".join(one(segment) for turn in turns for segment in turn)


def text(value: str) -> tuple[Part, ...]:
    return (TextPart(text=value),)


def media(kind: Any) -> MediaPart:
    return MediaPart(kind=kind, source=BlobRef(key="sha256/00", size_bytes=1), name="x")


def as_oracle(message: Message) -> dict[str, Any]:
    parts = [{"kind": "text", "text": p.text} if isinstance(p, TextPart) else {"kind": p.kind} for p in message.content]
    return {
        "role": message.role,
        "name": message.name,
        "parts": parts,
        "reasoning": message.reasoning or "",
        "calls": [{"id": c.id, "arguments": c.arguments} for c in message.tool_calls],
        "result_of": message.tool_call_id,
    }


_WORDS = st.text(alphabet="ab <|>\n{}%é月", max_size=6)
_PARTS = st.lists(
    st.one_of(_WORDS.map(lambda value: TextPart(text=value)), st.sampled_from(["image", "video"]).map(media)),
    max_size=3,
).map(tuple)
_CALLS = st.lists(
    st.builds(ToolCall, id=st.integers(0, 99).map(lambda n: f"functions.f:{n}"), name=st.just("f"), arguments=_WORDS),
    max_size=2,
).map(tuple)
_PLAIN = st.builds(Message, role=st.sampled_from(["system", "user"]), content=_PARTS, name=st.one_of(st.none(), _WORDS))
_ASSISTANT = st.builds(
    Message,
    role=st.just("assistant"),
    content=_PARTS,
    reasoning=st.one_of(st.none(), _WORDS),
    tool_calls=_CALLS,
)
_TOOL = st.builds(Message, role=st.just("tool"), content=_PARTS, tool_call_id=st.just("functions.f:1"))
_TOOLS: list[dict[str, Any]] = [{"type": "function", "function": {"name": "f", "description": "d"}}]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(_PLAIN, _ASSISTANT, _TOOL), max_size=6),
    st.booleans(),
    st.booleans(),
    st.sampled_from([[], _TOOLS]),
)
def test_the_oracle_renders_the_same(messages: list[Message], thinking: bool, preserve: bool, tools: list[Any]) -> None:
    expected = ORACLE.render(
        messages=[as_oracle(message) for message in messages],
        declaration=declare(tools) if tools else "",
        thinking=thinking,
        preserve=preserve,
    )
    assert written(render(messages, tools, thinking=thinking, preserve_thinking=preserve)) == expected


WEATHER = [
    {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}
]
CONVERSATION = [
    Message(role="system", content=text("S")),
    Message(role="user", content=text("U1")),
    Message(role="assistant", content=text("A1"), reasoning="R1"),
    Message(role="user", content=(media("image"), TextPart(text="what?"))),
    Message(
        role="assistant",
        content=text("calling"),
        reasoning="R2",
        tool_calls=(ToolCall(id="call_abc", name="get_weather", arguments='{"city": "Beijing"}'),),
    ),
    Message(role="tool", content=text('{"t":1}'), tool_call_id="call_abc"),
]
SAMPLE = (
    "<|im_system|>tool_declare<|im_middle|># Tools\n\n## functions\nnamespace functions {\n"
    "type get_weather = (_: {}) => any;\n}\n<|im_end|><|im_system|>system<|im_middle|>S<|im_end|>"
    "<|im_user|>user<|im_middle|>U1<|im_end|><|im_assistant|>assistant<|im_middle|><think></think>A1<|im_end|>"
    f"<|im_user|>user<|im_middle|>{IMAGE}\nwhat?<|im_end|><|im_assistant|>assistant<|im_middle|><think>R2</think>calling"
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
    '{"city": "Beijing"}<|tool_call_end|><|tool_calls_section_end|><|im_end|><|im_system|>tool<|im_middle|>'
    '## Return of functions.get_weather:0\n{"t":1}<|im_end|><|im_assistant|>assistant<|im_middle|><think>'
)


def test_the_reference_sample() -> None:
    assert written(render(CONVERSATION, WEATHER)) == SAMPLE


def test_preserved_thinking_keeps_all_reasoning() -> None:
    expected = SAMPLE.replace("<think></think>A1", "<think>R1</think>A1")
    assert written(render(CONVERSATION, WEATHER, preserve_thinking=True)) == expected


def test_instant_drops_all_reasoning_and_closes_the_opening() -> None:
    expected = SAMPLE.replace("R2", "") + "</think>"
    assert written(render(CONVERSATION, WEATHER, thinking=False)) == expected


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (("call_a", "call_b"), ("functions.f:0", "functions.f:1")),
        (("call_a", "call_a"), ("functions.f:0", "functions.f:1")),
        (("functions.f:7", "call_b"), ("functions.f:7", "functions.f:1")),
        (("call_a", "functions.f:0"), ("functions.f:1", "functions.f:0")),
        (("functions.g:0", ""), ("functions.f:0", "functions.f:1")),
    ],
)
def test_foreign_call_ids_are_renamed_with_their_results(ids: tuple[str, ...], expected: tuple[str, ...]) -> None:
    messages: list[Message] = []
    for call_id in ids:
        call = ToolCall(id=call_id, name="f", arguments="{}")
        messages += [
            Message(role="assistant", tool_calls=(call,)),
            Message(role="tool", content=text("r"), tool_call_id=call_id),
        ]
    rendered = written(render(messages))
    for name in expected:
        assert f"<|tool_call_begin|>{name}<|tool_call_argument_begin|>" in rendered
        assert f"## Return of {name}\n" in rendered


def test_a_marker_in_a_message_stays_text() -> None:
    turns = render([Message(role="user", name="<|im_end|>", content=text("<|im_end|><think>"))], thinking=False)
    markers = [s.name for turn in turns for s in turn if isinstance(s, Marker)]
    assert markers == [
        specials.IM_USER,
        specials.IM_MIDDLE,
        specials.IM_END,
        specials.IM_ASSISTANT,
        specials.IM_MIDDLE,
        specials.THINK,
        specials.END_THINK,
    ]


def test_golden_ids(released: Vocabulary) -> None:
    encoder = PromptEncoder(released)
    user = Message(role="user", content=text("hi, who are you?"))
    expected = "163587 2482 163601 9663 11 1364 554 398 30 163586 163588 69702 163601 163606"
    assert encoder.encode(render([user])).ids.tolist() == [int(number) for number in expected.split()]
    system = Message(role="system", content=text("You are Kimi, an AI assistant created by Moonshot AI."))
    expected = (
        "163594 14062 163601 3900 554 24980 72 11 519 22572 26626 5232 673 30218 10065 22572 13 163586 " + expected
    )
    assert encoder.encode(render([system, user])).ids.tolist() == [int(number) for number in expected.split()]


@pytest.mark.parametrize(
    ("unfinished", "thinking", "end"),
    [
        (Message(role="assistant", content=text("The ti")), True, "assistant<|im_middle|><think></think>The ti"),
        (Message(role="assistant", content=text("The ti")), False, "assistant<|im_middle|><think></think>The ti"),
        (Message(role="assistant", reasoning="So"), True, "assistant<|im_middle|><think>So"),
        (Message(role="assistant", reasoning="So"), False, "assistant<|im_middle|><think></think>"),
        (Message(role="assistant", reasoning="R", content=text("C")), True, "<|im_middle|><think>R</think>C"),
        (
            Message(role="assistant", name="Dr", content=text("C")),
            False,
            "<|im_assistant|>Dr<|im_middle|><think></think>C",
        ),
    ],
)
def test_partial_goes_on_behind_the_last_message(unfinished: Message, thinking: bool, end: str) -> None:
    user = Message(role="user", content=text("U"))
    turns = render([user, unfinished], thinking=thinking, partial=True)
    assert written(turns).endswith(end)
    assert written(turns).count("<|im_assistant|>") == 1
    assert opens_reasoning(turns) == (end.endswith("<think>So"))


def test_an_unfinished_message_is_no_answer_that_ends_the_history() -> None:
    unfinished = Message(role="assistant", content=text("It is"))
    assert written(render([*CONVERSATION, unfinished], WEATHER, partial=True)) == SAMPLE + "</think>It is"


def test_kimi_vl_says_images_flush_and_greets_itself() -> None:
    user = Message(role="user", content=(media("image"), TextPart(text="what?")))
    expected = f"<|im_user|>user<|im_middle|>{IMAGE}what?<|im_end|><|im_assistant|>assistant<|im_middle|>"
    system = "<|im_system|>system<|im_middle|>{}<|im_end|>"
    assert written(render([user], template=kimi_vl_template)) == system.format("You are a helpful assistant") + expected
    own = Message(role="system", content=text("S"))
    assert written(render([own, user], template=kimi_vl_template)) == system.format("S") + expected
