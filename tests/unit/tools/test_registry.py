"""What a registry promises: one description per tool, and arguments that fit it or words on why not."""

import msgspec
import pytest

from schemas.tools import ToolDeclaration
from services.tools.registry import MAX_LISTED_BYTES, Registry
from services.tools.tool import Call, Result, declared, said
from shared.errors import BadInput


class Named:
    def __init__(self, name: str, **more: object) -> None:
        schema = {"count": {"type": "integer", "minimum": 1}}
        self.declaration: ToolDeclaration = declared(name, "Says its name.", schema, required=("count",))
        self.declaration = msgspec.structs.replace(self.declaration, **more)

    async def run(self, call: Call) -> Result:
        return said(self.declaration.name)


def test_declarations_are_sorted_and_reserved_ones_are_not_listed() -> None:
    registry = Registry([Named("web_search"), Named("$patch"), Named("calc")])
    assert [declaration.name for declaration in registry.declarations()] == ["calc", "web_search"]
    assert registry.find("$patch").declaration.name == "$patch"


def test_an_unknown_tool_is_told_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match="no tool called 'pyhton'; there are: calc, python") as refusal:
        Registry([Named("python"), Named("calc")]).find("pyhton")
    assert refusal.value.code == "tool.unknown"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"count": 0}', "0 is less than the minimum of 1"),
        (b'{"count": 1, "size": 2}', "'size' was unexpected"),
        (b"{}", "'count' is a required property"),
        (b'{"count": 1', "not JSON"),
        (b'["count"]', "not a JSON object"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_in_words(data: bytes, words: str) -> None:
    registry = Registry([Named("calc")])
    with pytest.raises(BadInput, match=words) as refusal:
        registry.arguments(registry.find("calc"), data)
    assert refusal.value.code == "tool.arguments"


def test_arguments_that_fit_are_given_on() -> None:
    registry = Registry([Named("calc")])
    assert registry.arguments(registry.find("calc"), b'{"count": 3}') == {"count": 3}


@pytest.mark.parametrize("name", ["x", "9lives", "with space", "$a b", "calc", "a" * 65, "dot.ted"])
def test_names_that_cannot_be_added(name: str) -> None:
    with pytest.raises(BadInput, match="tool"):
        Registry([Named("calc"), Named(name)])


def test_a_list_that_no_message_holds_is_refused() -> None:
    with pytest.raises(BadInput, match="one tool more"):
        Registry([Named("calc", description="x" * MAX_LISTED_BYTES)])


@pytest.mark.parametrize("parameters", [b"{", b'{"type": 7}', b"[]"])
def test_parameters_that_are_no_schema_are_refused(parameters: bytes) -> None:
    with pytest.raises(BadInput, match="calc"):
        Registry([Named("calc", parameters=parameters)])


def test_a_removed_tool_makes_room_for_another_of_its_name() -> None:
    registry = Registry([Named("calc")])
    registry.remove("calc")
    registry.remove("calc")
    registry.add(Named("calc"))
    assert len(registry.declarations()) == 1
