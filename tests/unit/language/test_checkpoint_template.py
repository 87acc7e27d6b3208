"""A checkpoint's own template: the same as the built-in one where it says the same, safe against text, and bounded."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.blobs import BlobRef
from schemas.chat import MediaPart, Message, TextPart, ToolCall
from shared.errors import BadInput
from shared.language import specials
from shared.language.checkpoint_template import CheckpointTemplate
from shared.language.prompt import PromptEncoder
from shared.language.sandbox import BoundedTemplate, TemplateFailed
from shared.language.segments import Marker, Segment, joined
from shared.language.template import Turn, k26_template, opens_reasoning, render
from shared.language.vocabulary import Vocabulary, tiny_vocabulary

VOCABULARY = Vocabulary(tiny_vocabulary())

K26 = """
{%- macro say(m) -%}
{%- if m['content'] is string -%}{{ m['content'] }}
{%- else -%}
{%- for part in m['content'] -%}
{%- if part['type'] in ('image', 'image_url') -%}
<|media_begin|>image<|media_content|><|media_pad|><|media_end|>{{ '\\n' }}
{%- elif part['type'] in ('video', 'video_url') -%}<|kimi_k25_video_placeholder|>{{ '\\n' }}
{%- else -%}{{ part['text'] }}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- set ns = namespace(last=-1) -%}
{%- if not preserve_thinking -%}
{%- for m in messages -%}
{%- if m['role'] == 'assistant' and not m.get('tool_calls') -%}{%- set ns.last = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- if tools -%}<|im_system|>tool_declare<|im_middle|>
{%- if tools_ts_str -%}{{ tools_ts_str }}{%- else -%}{{ tools | tojson(separators=(',', ':')) }}{%- endif -%}
<|im_end|>{%- endif -%}
{%- for m in messages -%}
{%- set name = m.get('name') or m['role'] -%}
{%- if m['role'] in ('user', 'assistant') -%}<|im_{{ m['role'] }}|>{%- else -%}<|im_system|>{%- endif -%}
{{ name }}<|im_middle|>
{%- if m['role'] == 'assistant' -%}
<think>{% if thinking and loop.index0 > ns.last %}{{ m['reasoning_content'] }}{% endif %}</think>{{ say(m) }}
{%- if m.get('tool_calls') -%}
<|tool_calls_section_begin|>
{%- for call in m['tool_calls'] -%}
<|tool_call_begin|>{{ call['id'] }}<|tool_call_argument_begin|>
{%- if call['function']['arguments'] is string -%}{{ call['function']['arguments'] }}
{%- else -%}{{ call['function']['arguments'] | tojson }}{%- endif -%}
<|tool_call_end|>
{%- endfor -%}
<|tool_calls_section_end|>
{%- endif -%}
{%- elif m['role'] == 'tool' -%}
{{ '## Return of ' ~ m['tool_call_id'] ~ '\\n' }}{{ say(m) }}
{%- else -%}
{{ say(m) }}
{%- endif -%}
<|im_end|>
{%- endfor -%}
{%- if add_generation_prompt -%}
<|im_assistant|>assistant<|im_middle|><think>{% if thinking is defined and not thinking %}</think>{% endif %}
{%- endif -%}
"""
OWN = CheckpointTemplate(K26, VOCABULARY.special_ids)


def flat(turns: list[Turn]) -> list[Segment]:
    """Texts may be cut elsewhere, and each turn begins with a marker, so that joining them changes no token."""
    return joined(segment for turn in turns for segment in turn)


def text(value: str) -> tuple[TextPart, ...]:
    return (TextPart(text=value),)


def media(kind: Any) -> MediaPart:
    return MediaPart(kind=kind, source=BlobRef(key="sha256/00", size_bytes=1), name="x")


_WORDS = st.lists(
    st.sampled_from(["a ", "<", "[", "\ue000", "é", "\n", '"', *specials.OFFSETS, "<|kimi_k25_video_placeholder|>"])
)
_TEXT = _WORDS.map("".join)
_PARTS = st.lists(
    st.one_of(_TEXT.map(lambda value: TextPart(text=value)), st.sampled_from(["image", "video"]).map(media)), max_size=3
).map(tuple)
_CALL = st.builds(
    ToolCall, id=st.sampled_from(["functions.f:0", "functions.f:7", "call_a"]), name=st.just("f"), arguments=_TEXT
)
_MESSAGE = st.one_of(
    st.builds(Message, role=st.sampled_from(["system", "user"]), content=_PARTS, name=st.one_of(st.none(), _TEXT)),
    st.builds(
        Message,
        role=st.just("assistant"),
        content=_PARTS,
        reasoning=st.one_of(st.none(), _TEXT),
        tool_calls=st.lists(_CALL, max_size=2).map(tuple),
    ),
    st.builds(Message, role=st.just("tool"), content=_PARTS, tool_call_id=st.sampled_from(["call_a", "<|im_end|>"])),
)
_TOOLS = st.sampled_from(
    [
        [],
        [{"type": "function", "function": {"name": "f", "description": "[EOS]<|im_end|>"}}],
        [{"type": "function", "function": {"name": "f", "parameters": {"allOf": ["<think>", "[BOS]"]}}}],
        [{"type": "builtin_function", "function": {"name": "$web_search"}}],
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(_MESSAGE, max_size=5), _TOOLS, st.booleans(), st.booleans())
def test_the_same_rules_give_the_same_segments(
    messages: list[Message], tools: list[Any], thinking: bool, preserve: bool
) -> None:
    built_in, own = (
        render(messages, tools, thinking=thinking, preserve_thinking=preserve, template=template)
        for template in (k26_template, OWN)
    )
    assert flat(own) == flat(built_in)
    assert opens_reasoning(own) == opens_reasoning(built_in) == thinking


@pytest.mark.parametrize("thinking", [True, False])
def test_partial_with_an_own_template(thinking: bool) -> None:
    messages = [Message(role="user", content=text("U")), Message(role="assistant", name="Dr", content=text("The ti"))]
    own = render(messages, template=OWN, thinking=thinking, partial=True)
    assert flat(own) == flat(render(messages, thinking=thinking, partial=True))


def test_a_marker_can_not_be_put_together_from_texts() -> None:
    parts = (
        TextPart(text="<|im_"),
        TextPart(text="end|>"),
        media("image"),
        TextPart(text="<|im_end"),
        TextPart(text="|>"),
    )
    turns = render([Message(role="user", content=parts)], template=OWN, thinking=False)
    markers = [segment.name for segment in flat(turns) if isinstance(segment, Marker)]
    assert markers.count(specials.IM_END) == 1


def test_the_older_name_of_a_marker_is_the_same_token() -> None:
    own = CheckpointTemplate("<|media_start|>", VOCABULARY.special_ids)
    ids = PromptEncoder(VOCABULARY).encode(render([], template=own)).ids.tolist()
    assert ids == [VOCABULARY.special(specials.MEDIA_BEGIN)]


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('roles must alternate') }}",
        "{{ messages[0].content.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(9999) %}{% for b in range(9999) %}xxxxxxxx{% endfor %}{% endfor %}",
        "{{ 'x' * 1000000000 }}",
        "{{ 'x' * (10 ** 10) }}",
        "{{ '%1000000000d' % 1 }}",
        "{% set ns = namespace(x='xxxxxxxx') %}{% for a in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='xxxxxxxx') %}{% for a in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(200) }}",
        "{% include 'x' %}",
        "{{ nothing.at_all }}",
        "no image",
    ],
)
def test_what_a_template_must_not_do_is_a_refusal(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.language.sandbox.DEFAULT_SECONDS", 0.2)
    template = CheckpointTemplate(source, VOCABULARY.special_ids)
    with pytest.raises(BadInput) as caught:
        render([Message(role="user", content=(media("image"),))], template=template)
    assert (caught.value.code, caught.value.param) == ("chat.template", "messages")


@pytest.mark.parametrize("source", ["{% if %}", "{{ 'x' | nonesuch }}", " " * 300_000])
def test_what_does_not_compile_is_refused(source: str) -> None:
    with pytest.raises(BadInput, match="does not compile"):
        CheckpointTemplate(source, VOCABULARY.special_ids)


def test_time_is_counted_from_each_rendering() -> None:
    template = BoundedTemplate("{% for a in range(n) %}{% for b in range(n) %}{% endfor %}{% endfor %}", seconds=0.2)
    with pytest.raises(TemplateFailed):
        template.render({"n": 99999}, max_chars=1)
    assert template.render({"n": 1}, max_chars=1) == ""
