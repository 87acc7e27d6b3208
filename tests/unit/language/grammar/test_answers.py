"""Random logits under a grammar: every answer is complete, valid, within its budget, and can be continued anywhere."""

import json
from functools import cache

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from shared.errors import BadInput
from shared.language.grammar.compiler import GrammarCompiler
from shared.language.grammar.mask import AnswerMask, minimum_tokens
from shared.language.grammar.source import AnswerGrammar, answer_grammar, decode_grammar
from shared.language.grammar.tokens import TokenTable
from shared.language.vocabulary import Vocabulary, tiny_vocabulary
from tests.unit.language.grammar.sampling import choose, draw, parsed
from tests.unit.language.grammar.schemas import Schema, schemas

SCHEMAS = schemas()
GROUPS = 12


@cache
def compiler() -> GrammarCompiler:
    return GrammarCompiler(TokenTable(Vocabulary(tiny_vocabulary()), 2048 + 256 + 8))


def tool(schema: object, name: str = "get_it", **more: object) -> dict[str, object]:
    return {"type": "function", "function": {"name": name, "parameters": schema, **more}}


def required(schema: Schema, *, thinking: bool = False, first_index: int = 0) -> AnswerGrammar:
    tools = [tool(schema, strict=True), tool({}, "another_tool")]
    choice = {"type": "function", "function": {"name": "get_it"}}
    made = answer_grammar(thinking=thinking, tools=tools, tool_choice=choice, first_index=first_index)
    assert made is not None
    return decode_grammar(made.encode())


def json_content(schema: Schema, **more: object) -> AnswerGrammar:
    wanted = {"type": "json_schema", "json_schema": {"name": "it", "strict": True, "schema": schema}}
    made = answer_grammar(thinking=False, response_format=wanted, **more)  # pyright: ignore[reportArgumentType]
    assert made is not None
    return made


def check(schema: Schema, text: str) -> None:
    Draft202012Validator(schema).validate(json.loads(text))


def test_there_are_enough_schemas() -> None:
    assert len({json.dumps(schema) for _, schema in SCHEMAS}) >= 300


@pytest.mark.parametrize("group", range(GROUPS))
def test_every_call_is_complete_and_valid_at_every_budget(group: int) -> None:
    for seed, (name, schema) in list(enumerate(SCHEMAS))[group::GROUPS]:
        for thinking in (False, True):
            answer = compiler().compile(required(schema, thinking=thinking, first_index=seed % 3))
            least = minimum_tokens(answer)
            with pytest.raises(BadInput) as refused:
                AnswerMask(answer, least - 1)
            assert refused.value.param == "max_tokens"
            budgets = [least, least + 1, least + 9, least + 150]
            for budget in [*budgets, 2048] if seed % 24 == 0 else budgets:
                tokens, ended = draw(answer, budget, seed)
                assert ended == "stop", (name, budget)
                _, content, calls = whole = parsed(answer, tokens)
                assert whole == parsed(answer, tokens, 7)
                assert content == ""
                assert [call[:2] for call in calls] == [(f"functions.get_it:{seed % 3}", "get_it")], name
                check(schema, calls[0][2])


@pytest.mark.parametrize("group", range(4))
def test_content_is_one_valid_json_text(group: int) -> None:
    for seed, (_, schema) in list(enumerate(SCHEMAS))[group::8]:
        answer = compiler().compile(json_content(schema))
        for budget in (minimum_tokens(answer), minimum_tokens(answer) + 60):
            tokens, ended = draw(answer, budget, seed)
            _, content, calls = parsed(answer, tokens)
            assert ended == "stop"
            assert not calls
            check(schema, content)


@pytest.mark.parametrize("seed", range(0, 300, 25))
def test_a_replayed_beginning_gives_the_same_masks_and_the_same_end(seed: int) -> None:
    answer = compiler().compile(required(SCHEMAS[seed][1], thinking=seed % 2 == 0))
    budget = minimum_tokens(answer) + 60
    tokens, _ = draw(answer, budget, seed)
    mask = AnswerMask(answer, budget)
    masks = []
    for token in tokens:
        masks.append(mask.allowed())
        mask.accept(token)
    for cut in range(0, len(tokens), 5):
        again = AnswerMask(answer, budget)
        for token in tokens[:cut]:
            again.accept(token)
        assert np.array_equal(again.allowed(), masks[cut])
        assert draw(answer, budget, seed, tokens[:cut])[0] == tokens


def test_calls_in_parallel_are_numbered_on_and_all_valid() -> None:
    tools = [
        tool({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}, f"t_{i}")
        for i in range(9)
    ]
    made = answer_grammar(thinking=False, tools=tools, tool_choice="required", first_index=4)
    assert made is not None
    answer = compiler().compile(made)
    counts = set()
    for seed in range(20):
        tokens, ended = draw(answer, 300, seed)
        _, _, calls = parsed(answer, tokens)
        assert ended == "stop"
        assert [call[0] for call in calls] == [f"functions.{call[1]}:{4 + i}" for i, call in enumerate(calls)]
        assert all(
            call[1] in {f"t_{i}" for i in range(9)} and isinstance(json.loads(call[2])["n"], int) for call in calls
        )
        counts.add(len(calls))
    assert len(counts) > 1


def test_left_to_itself_text_is_free_and_a_call_once_begun_is_complete() -> None:
    schema = {"type": "object", "properties": {"x": {"enum": ["a"]}}, "required": ["x"]}
    made = answer_grammar(thinking=True, tools=[tool(schema)])
    assert made is not None
    answer = compiler().compile(made)
    special = answer.special
    mask = AnswerMask(answer, 40)
    for token in answer.table.vocabulary.encode("I think so").tolist():
        mask.accept(token)
    for name in ("</think>", "<|tool_calls_section_begin|>"):
        assert mask.allowed()[special(name)]
        mask.accept(special(name))
    assert np.flatnonzero(mask.allowed()).tolist() == [special("<|tool_call_begin|>")]
    tight = AnswerMask(answer, minimum_tokens(answer) + 3)
    tight.accept(special("</think>"))
    assert not tight.allowed()[special("<|tool_calls_section_begin|>")]
    assert tight.allowed()[answer.stops[0]]


def test_none_means_no_tool_section() -> None:
    made = answer_grammar(thinking=False, tools=[tool({})], tool_choice="none")
    assert made is not None
    answer = compiler().compile(made)
    mask = AnswerMask(answer, 9)
    assert np.flatnonzero(mask.allowed())[2048:].tolist() == list(answer.stops)


def test_json_object_and_a_prefix_of_it() -> None:
    made = answer_grammar(thinking=False, response_format={"type": "json_object"}, prefix='{"a": [1')
    assert made is not None
    tokens, ended = draw(compiler().compile(made), 60, 5)
    assert ended == "stop"
    value = json.loads('{"a": [1' + parsed(compiler().compile(made), tokens)[1])
    assert isinstance(value["a"], list)
    wrong = answer_grammar(thinking=False, response_format={"type": "json_object"}, prefix="Sure:")
    assert wrong is not None
    with pytest.raises(BadInput):
        compiler().compile(wrong)


def test_a_drawn_token_without_a_way_to_the_end_is_replaced() -> None:
    answer = compiler().compile(
        required({"type": "object", "properties": {"n": {"type": "string"}}, "required": ["n"]})
    )
    least = minimum_tokens(answer)
    mask, tokens = AnswerMask(answer, least), []
    random = np.random.default_rng(3)
    while not mask.is_complete:
        ids = np.flatnonzero(mask.allowed())
        tokens.append(mask.settle(int(random.choice(ids))))
    assert len(tokens) == least
    check({"required": ["n"]}, parsed(answer, tokens[:-1])[2][0][2])


def test_bits_are_the_mask() -> None:
    mask = AnswerMask(compiler().compile(required({"type": "object"})), 50)
    bits = np.full(-(-2312 // 32), -1, dtype="<i4")
    mask.fill(bits)
    unpacked = np.unpackbits(bits.view(np.uint8), bitorder="little")
    assert np.array_equal(np.flatnonzero(unpacked), np.flatnonzero(mask.allowed()))
    choose(mask, np.random.default_rng(0))


def test_equal_schemas_are_compiled_once() -> None:
    fresh = GrammarCompiler(compiler().table, masks=False, max_values=2)
    for _ in range(3):
        fresh.compile(required({"type": "object", "properties": {"k": {"type": "null"}}}))
    assert (fresh.figures.compiled, fresh.figures.hits) == (1, 2)
