"""What schemas become: texts accepted and refused, exact bounds, refusals that name the place."""

import json
import re
from typing import Any

import numpy as np
import pytest

from shared.errors import BadInput
from shared.language.grammar.automaton import DEAD, Automaton
from shared.language.grammar.compiler import GrammarCompiler
from shared.language.grammar.nodes import Grammar
from shared.language.grammar.pattern import content_of
from shared.language.grammar.schema import grammar_of
from shared.language.grammar.source import answer_grammar
from shared.language.grammar.tokens import FewestTokens, TokenTable
from shared.language.grammar.unsupported import Unsupported
from shared.language.vocabulary import Vocabulary, tiny_vocabulary


def accepts(schema: Any, text: str) -> bool:
    automaton = Automaton(grammar_of(schema, strict=True)[0])
    state = automaton.read(automaton.start, text.encode())
    return state != DEAD and automaton.accepts(state)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer", "minimum": -12, "maximum": 305}, range(-12, 306), [*range(-400, -12), *range(306, 999)]),
        ({"type": "integer", "exclusiveMinimum": 99}, range(100, 2000, 7), range(-50, 100)),
        ({"type": "integer", "multipleOf": 7}, range(-70, 700, 7), [1, -6, 13, 99]),
        ({"type": "number", "minimum": 0.25, "maximum": 12.5}, [0.25, 0.3, 1, 12.5, 11.999], [0.249, 0, 12.51, -1, 13]),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, [0.001, 0.5, 0.9999], [0, 1, 1.1, -0.5]),
        ({"type": "number", "exclusiveMaximum": -2}, [-2.0001, -3, -1000], [-2, -1.9, 0, 5]),
        ({"enum": ["a", 1, None, {"k": [1]}]}, ["a", 1, None, {"k": [1]}], ["b", 2, {"k": [2]}, True]),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "äöü", '"\\'], ["a", "abcd"]),
        ({"type": "array", "items": {"const": 0}, "minItems": 1, "maxItems": 2}, [[0], [0, 0]], [[], [0, 0, 0], [1]]),
        ({"type": "object", "properties": {"a": {}}}, [{}, {"a": 1}, {"a": {"b": [None]}}], [{"b": 1}, []]),
        ({"type": "object", "additionalProperties": {"type": "null"}}, [{}, {"ä": None}], [{"a": 1}]),
        (
            {"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": True},
            [[], ["a"], ["b", "a"]],
            [["a", "a"], ["a", "b", "a"]],
        ),
        ({"$defs": {"n": {"anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#/$defs/n"}}]}},
          "$ref": "#/$defs/n"}, [None, [], [[], None], [[[None]]]], [1, [2]]),
    ],
)  # fmt: skip
def test_values(schema: Any, good: Any, bad: Any) -> None:
    compact = {"ensure_ascii": False, "separators": (",", ":")}
    assert [value for value in good if not accepts(schema, json.dumps(value, **compact))] == []
    assert [value for value in bad if accepts(schema, json.dumps(value, **compact))] == []


def test_one_space_behind_colons_and_commas_and_none_elsewhere() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}, "required": ["a"]}
    assert accepts(schema, '{"a": [1, 2]}')
    assert not any(accepts(schema, text) for text in ('{ "a":[]}', '{"a" :[]}', '{"a":  []}', '{"a":[ ]}', ' {"a":[]}'))


def test_a_declared_name_cannot_come_back_as_another_one() -> None:
    schema = {"type": "object", "properties": {"ab": {"type": "null"}}, "additionalProperties": {"type": "integer"}}
    assert accepts(schema, '{"ab":null,"a":1,"abc":2,"":3}')
    assert not accepts(schema, '{"ab":null,"ab":1}')
    assert not accepts(schema, '{"\\u0061b":1}')


@pytest.mark.parametrize(
    "pattern", ["^a|b$", "x{2,3}y?", r"^[^a-y]+$", r"\d\w\s", "^(?:ab)*c", r"^[\u4e00-\u9fff]{2}$", "^$"]
)
def test_patterns_mean_what_they_mean_to_a_search(pattern: str) -> None:
    automaton = Automaton(Grammar(content_of(pattern)))
    texts = [
        "",
        "a",
        "b",
        "ab",
        "cab",
        "xxy",
        "xx",
        "zxxxz",
        "zz",
        "0a ",
        "abc",
        "c",
        "ababc",
        "中文",
        "中",
        "za",
        "a0b\t",
    ]
    for text in texts:
        state = automaton.read(automaton.start, json.dumps(text, ensure_ascii=False)[1:-1].encode())
        found = state != DEAD and automaton.accepts(state)
        assert found == (re.search(pattern, text) is not None), (pattern, text)


@pytest.mark.parametrize("pattern", ["(?=a)b", r"\1", "(?<!x)y", "a^b", r"\p{L}", "[z-a]", "(a", "a{1,99999}", "a{x}"])
def test_other_patterns_are_refused_by_name(pattern: str) -> None:
    with pytest.raises(Unsupported):
        content_of(pattern)


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "object", "properties": {"a": {"contains": {}}}}, "/properties/a/contains"),
        ({"type": "object", "properties": {"a": {"pattern": "(?=x)"}}}, "/properties/a/pattern"),
        ({"oneOf": [{"type": "object"}, {"type": "object", "required": ["x"]}]}, "/oneOf"),
        ({"$ref": "https://example.com/s"}, "/$ref"),
        ({"type": "nonsense"}, "/type"),
        ({"properties": {"a": {"minimum": "1"}}}, "/properties/a/minimum"),
    ],
)
def test_strictly_a_refusal_names_field_and_path(schema: Any, path: str) -> None:
    compiler = GrammarCompiler(TokenTable(Vocabulary(tiny_vocabulary())), masks=False)
    tools = [{"type": "function", "function": {"name": "abc", "parameters": schema, "strict": True}}]
    made = answer_grammar(thinking=False, tools=tools)
    assert made is not None
    with pytest.raises(BadInput) as refused:
        compiler.compile(made)
    assert refused.value.param == "tools[0].function.parameters"
    assert path in refused.value.message


def test_otherwise_what_is_left_out_is_said() -> None:
    compiler = GrammarCompiler(TokenTable(Vocabulary(tiny_vocabulary())), masks=False)
    schema = {"type": "object", "properties": {"a": {"type": "array", "contains": {"const": 1}}}}
    made = answer_grammar(
        thinking=False, tools=[{"type": "function", "function": {"name": "abc", "parameters": schema}}]
    )
    assert made is not None
    (reason,) = compiler.compile(made).reasons
    assert "/properties/a/contains" in reason
    endless = {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
    made = answer_grammar(thinking=False, response_format={"type": "json_schema", "json_schema": {"schema": endless}})
    assert made is not None
    assert "not enforced" in compiler.compile(made).reasons[0]


def test_what_nothing_satisfies_is_refused() -> None:
    for schema in ({"type": "integer", "minimum": 2, "maximum": 1}, {"$ref": "#/x", "x": {"enum": []}}, False,
                   {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}):  # fmt: skip
        with pytest.raises(BadInput):
            Automaton(grammar_of(schema, strict=False)[0])


def test_the_fewest_tokens() -> None:
    table = TokenTable(Vocabulary(tiny_vocabulary()))
    fewest = FewestTokens(table)
    for text in (b"", b"{}", b'{"value":"", "other": [1, 2, 3]}', b"the quick brown fox", b"fox", "日本".encode()):
        tokens = fewest.tokens(text)
        assert table.vocabulary.decode_bytes(np.array(tokens, "u4")) == text
        assert len(tokens) == fewest.count(text) <= len(table.vocabulary.encode(text.decode()))
