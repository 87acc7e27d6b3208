"""Small decisions: prices, refusals, answers from pieces, catalogues, paths, pauses."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from schemas.blobs import BlobRef
from schemas.chat import ChatDelta, ToolCall, ToolCallDelta, Usage
from schemas.codec import decode_json
from schemas.runs import RunBudget, RunSpec, SeedFile
from schemas.tools import ToolDeclaration
from services.coordinator import budget, refusal
from services.coordinator.answer import Answer
from services.coordinator.budget import Spent
from services.coordinator.catalogue import Catalogue, chosen
from services.coordinator.prices import FREE, Price
from services.coordinator.repetition import Repetition
from services.coordinator.workspace import check_paths, seed_tree
from shared.errors import BadInput, Busy, DeadlineExceeded, Internal, MoontideError, NotFound, Unavailable

REF = BlobRef(key="sha256/x", size_bytes=1)
PRICE = Price(prompt=1.0, cached=0.1, completion=10.0)
counts = some.integers(0, 100_000)


def test_cached_tokens_have_a_price_of_their_own() -> None:
    usage = Usage(prompt_tokens=1_000_000, cached_tokens=400_000, completion_tokens=100_000)
    assert PRICE.of(usage) == pytest.approx(0.6 + 0.04 + 1.0)
    assert FREE.of(usage) == 0.0


@given(counts, some.integers(1, 200_000), counts)
def test_a_call_that_is_begun_cannot_exceed_the_tokens(spent: int, limit: int, prompt: int) -> None:
    held = RunBudget(max_tokens=limit)
    before = Spent(tokens=spent)
    if budget.exhausted(held, before, prompt, FREE) is None:
        answer = budget.answer_tokens(held, before, prompt, FREE)
        assert answer is not None
        assert spent + prompt + answer <= limit


@given(some.floats(0, 1), some.floats(0.0001, 1), counts)
def test_a_call_that_is_begun_cannot_exceed_the_money(spent: float, limit: float, prompt: int) -> None:
    held = RunBudget(max_cost_usd=limit)
    before = Spent(cost_usd=spent)
    if budget.exhausted(held, before, prompt, PRICE) is None:
        answer = budget.answer_tokens(held, before, prompt, PRICE)
        assert answer is not None
        cost = PRICE.of(Usage(prompt_tokens=prompt, completion_tokens=answer))
        assert spent + cost <= limit * (1 + 1e-9)


def test_without_limits_nothing_is_limited() -> None:
    assert budget.answer_tokens(RunBudget(), Spent(tokens=10**9), 10**6, PRICE) is None
    assert budget.exhausted(RunBudget(), Spent(tokens=10**9), 10**6, PRICE) is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Unavailable("bus.no_responder", "nobody"), "passing"),
        (Busy("upstream.busy", "full", retry_after_seconds=3.0), "passing"),
        (Unavailable("upstream.quota", "used up", status=502), "passing"),
        (Unavailable("upstream.unauthorized", "no key", status=502), "passing"),
        (DeadlineExceeded("call.deadline", "late"), "passing"),
        (Internal("internal", "oops"), "passing"),
        (BadInput("chat.context_overflow", "too long"), "too_long"),
        (BadInput("upstream.refused", "no"), "permanent"),
        (NotFound("blob.not_found", "gone"), "permanent"),
    ],
)
def test_what_may_pass_is_waited_for(error: MoontideError, kind: str) -> None:
    assert refusal.kind(error, 1) == kind


@given(some.integers(1, 60), some.floats(0, 10_000))
def test_pauses_grow_and_stay_bounded(failures: int, asked: float) -> None:
    error = Busy("b", "b", retry_after_seconds=asked)
    wait = refusal.wait_seconds(error, failures, 1.0, 30.0)
    assert wait <= max(30.0, refusal.MAX_ASKED_WAIT_SECONDS)
    assert wait >= min(asked, refusal.MAX_ASKED_WAIT_SECONDS)
    assert wait >= min(2.0 ** (failures - 1), 30.0)


@given(some.text(max_size=40), some.lists(some.tuples(some.text(max_size=8), some.text(max_size=12)), max_size=4))
def test_an_answer_is_the_same_however_it_was_cut(content: str, calls: list[tuple[str, str]]) -> None:
    whole, pieces = Answer(), Answer()
    made = [ToolCallDelta(index=i, id=f"c:{i}", name=n, arguments=a) for i, (n, a) in enumerate(calls)]
    whole.take(ChatDelta(content=content, tool_calls=tuple(made)))
    for letter in content:
        pieces.take(ChatDelta(content=letter))
    for call in made:
        pieces.take(ChatDelta(tool_calls=(ToolCallDelta(index=call.index, id=call.id, name=call.name),)))
        for letter in call.arguments:
            pieces.take(ChatDelta(tool_calls=(ToolCallDelta(index=call.index, arguments=letter),)))
    assert whole.calls(0) == pieces.calls(0)
    assert whole.message(whole.calls(0)) == pieces.message(pieces.calls(0))


def test_calls_without_ids_get_kimis_counted_over_the_whole_conversation() -> None:
    answer = Answer()
    answer.take(ChatDelta(tool_calls=(ToolCallDelta(index=0, name="look"), ToolCallDelta(index=1, name="go"))))
    assert answer.calls(7) == (
        ToolCall(id="functions.look:7", name="look", arguments="{}"),
        ToolCall(id="functions.go:8", name="go", arguments="{}"),
    )


def test_a_history_holds_no_broken_arguments() -> None:
    answer = Answer()
    answer.take(ChatDelta(tool_calls=(ToolCallDelta(index=0, id="a:0", name="look", arguments='{"a":'),)))
    calls = answer.calls(0)
    assert calls[0].arguments == '{"a":'
    assert answer.message(calls).tool_calls[0].arguments == "{}"


def tool(name: str, expected_seconds: float = 1.0) -> ToolDeclaration:
    schema = b'{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}'
    return ToolDeclaration(name=name, description=name, parameters=schema, expected_seconds=expected_seconds)


def test_a_catalogue_checks_calls_and_says_what_is_wrong() -> None:
    catalogue = Catalogue((tool("look"),))
    assert catalogue.problem(ToolCall(id="a", name="look", arguments='{"n":1}')) is None
    for arguments, said in (('{"n":"x"}', "integer"), ("{}", "required"), ("x", "not JSON")):
        problem = catalogue.problem(ToolCall(id="a", name="look", arguments=arguments))
        assert problem is not None
        assert problem[0] == "tool.arguments"
        assert said in problem[1]


def test_the_announced_pause_is_that_of_the_slowest_tool_called_last() -> None:
    catalogue = Catalogue((tool("quick", 1.0), tool("slow", 60.0)))
    assert catalogue.expected_seconds(("quick",)) == 1.0
    assert catalogue.expected_seconds(("quick", "slow")) == 60.0
    assert catalogue.expected_seconds(()) == 60.0


def test_tools_are_shown_in_one_order_whatever_was_listed_first() -> None:
    spec = RunSpec(model="m", messages=(REF,))
    one, other = tool("a"), tool("b")
    assert Catalogue(chosen((one, other), spec)).json == Catalogue(chosen((other, one), spec)).json


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "a/../b", "a//b", ".", "a/.", ".git/config", "a\\b", "a\nb", "x" * 2000]
)
def test_a_seed_file_stays_inside(path: str) -> None:
    spec = RunSpec(model="m", messages=(REF,), files=(SeedFile(path=path, content=REF),))
    with pytest.raises(BadInput, match="workspace"):
        check_paths(spec)


def test_a_seed_file_is_no_folder_and_is_there_once() -> None:
    for paths in (("a", "a/b"), ("a/b", "a"), ("a", "a")):
        files = tuple(SeedFile(path=path, content=REF) for path in paths)
        with pytest.raises(BadInput):
            check_paths(RunSpec(model="m", messages=(REF,), files=files))


@given(some.permutations(["a", "b/c", "b/d", "e"]))
def test_equal_files_are_equal_trees(paths: list[str]) -> None:
    files = tuple(SeedFile(path=path, content=REF) for path in paths)
    tree = seed_tree(RunSpec(model="m", messages=(REF,), files=files))
    assert tree is not None
    assert [file.path for file in tree.files] == ["a", "b/c", "b/d", "e"]


@given(some.lists(some.integers(0, 5), max_size=300))
def test_calls_are_remembered_within_bounds(made: list[int]) -> None:
    repetition = Repetition()
    for number in made:
        repetition.asked((str(number), "", ""))
    recent = made[-64:]
    for number in range(6):
        assert repetition.times((str(number), "", "")) == recent.count(number)


@pytest.mark.parametrize("schema", [b"", b"{", b'{"type":"nothing"}', b"[]"])
def test_a_tool_whose_schema_is_none_is_judged_by_itself(schema: bytes) -> None:
    catalogue = Catalogue((ToolDeclaration(name="odd", description="odd", parameters=schema),))
    assert catalogue.problem(ToolCall(id="a", name="odd", arguments='{"x":1}')) is None
    assert catalogue.problem(ToolCall(id="a", name="odd", arguments="x")) is not None
    (shown,) = decode_json(catalogue.json, list[dict[str, object]])
    assert shown["type"] == "function"
