"""A session's variables are the same after a pickle, whatever they are, and what cannot be kept is named."""

import io
import threading
import types
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.tools.inside import exchange, state

LIMIT = 1_000_000
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3) | st.tuples(inner)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from(["a", "b", "c", "d", "__private"])


def fresh() -> dict[str, Any]:
    return vars(types.ModuleType("__main__"))


def ran(code: str, namespace: dict[str, Any]) -> dict[str, Any]:
    exec(code, namespace)
    return namespace


def moved(namespace: dict[str, Any]) -> dict[str, Any]:
    """As another machine gets them."""
    data, dropped = state.kept(namespace, LIMIT)
    assert dropped == {}
    there = fresh()
    state.restore(data, there)
    return there


@settings(max_examples=100, deadline=None, derandomize=True)
@given(values=st.dictionaries(NAMES, PLAIN, max_size=4))
def test_values_come_back_equal(values: dict[str, Any]) -> None:
    there = moved(fresh() | values)
    assert {name: there[name] for name in values} == values


@settings(max_examples=30, deadline=None, derandomize=True)
@given(values=st.dictionaries(NAMES, PLAIN, max_size=3), moves=st.integers(1, 4))
def test_moving_again_changes_nothing(values: dict[str, Any], moves: int) -> None:
    there = ran("def f(): return a", fresh() | {"a": 1} | values)
    for _ in range(moves):
        there = moved(there)
    there["a"] = "changed"
    assert there["f"]() == "changed"


def test_functions_and_classes_go_on_sharing_one_namespace() -> None:
    code = """
count = 0
def add():
    global count
    count += 1
    return count
class Counter:
    step = 2
    def go(self): return add() * self.step
counter = Counter()
closure = (lambda n: lambda: n + count)(10)
pair = [counter, counter]
"""
    there = moved(ran(code, fresh()))
    assert (there["add"](), there["counter"].go(), there["closure"](), there["count"]) == (1, 4, 12, 2)
    assert there["pair"][0] is there["pair"][1] is there["counter"]
    assert type(there["counter"]) is there["Counter"]
    ran("def add(): return 100", there)
    assert there["counter"].go() == 200, "what is defined anew is what older code calls"


@pytest.mark.parametrize("value", [threading.Lock(), (number for number in range(3)), threading.local()])
def test_what_cannot_be_kept_is_named_and_taken_out(value: object) -> None:
    namespace = fresh() | {"bad": value, "good": 1, "nested": [value]}
    data, dropped = state.kept(namespace, LIMIT)
    assert set(dropped) == {"bad", "nested"}
    assert "bad" not in namespace
    there = fresh()
    state.restore(data, there)
    assert there["good"] == 1
    assert "bad" not in there


def test_a_value_whose_own_methods_fail_costs_only_itself() -> None:
    namespace = ran("class Odd:\n    def __reduce__(self): raise RuntimeError('no')\nodd = Odd()\nkept = 2", fresh())
    _, dropped = state.kept(namespace, LIMIT)
    assert dropped == {"odd": "RuntimeError: no"}


def test_the_largest_go_first_when_it_is_too_much() -> None:
    namespace = fresh() | {"huge": bytes(900_000), "large": bytes(500_000), "small": 1}
    data, dropped = state.kept(namespace, LIMIT)
    assert (set(dropped), len(data) <= LIMIT) == ({"huge"}, True)
    assert set(namespace) >= {"large", "small"}


def test_imported_modules_are_kept_by_name() -> None:
    there = moved(ran("import json as j\nfrom math import pi", fresh()))
    assert (there["j"].dumps([1]), there["pi"] > 3) == ("[1]", True)


@given(
    head=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3), pieces=st.lists(st.binary(), max_size=3)
)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_what_is_packed_is_read(head: dict[str, str], pieces: list[bytes]) -> None:
    told, found = exchange.read(io.BytesIO(exchange.packed(head, pieces)))  # type: ignore[misc]
    assert {name: told[name] for name in head if name != "pieces"} == {n: v for n, v in head.items() if n != "pieces"}
    assert found == pieces
    assert exchange.read(io.BytesIO(b"")) is None
