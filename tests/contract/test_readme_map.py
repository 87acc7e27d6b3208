"""README.md tells the truth about files and functions."""

import ast
import re
from pathlib import PurePosixPath

import pytest

from .source import CODE, ROOT, name_of, python_files, tree

README = ROOT / "README.md"
ENTRY = re.compile(r"`([\w./-]+\.py):([\w.]+)`")
written = pytest.mark.skipif(not README.exists(), reason="this tree has no README.md")


def section(title: str) -> str:
    """The text below a heading of second level."""
    text = README.read_text(encoding="utf-8")
    _, found, rest = text.partition(f"\n## {title}\n")
    assert found, f"README.md has no heading '## {title}'"
    return re.split(r"\n## ", rest)[0]


def fenced(text: str) -> list[str]:
    match = re.search(r"```[a-z]*\n(.*?)```", text, re.DOTALL)
    assert match, "no fenced block"
    return [line for line in match.group(1).splitlines() if line.strip()]


def mapped(lines: list[str]) -> list[str]:
    """Paths of a tree whose lines are indented by two spaces per level; folders end with ``/``."""
    paths: list[str] = []
    parents: list[str] = []
    for line in lines:
        level = (len(line) - len(line.lstrip(" "))) // 2
        name = line.split()[0]
        assert level <= len(parents), f"{line!r} is indented too far"
        parents[level:] = [name.rstrip("/")]
        paths.append("/".join(parents) + ("/" if name.endswith("/") else ""))
    return paths


def definitions(module: ast.Module) -> set[str]:
    """``function``, ``Class``, ``Class.method``, and ``method`` by itself."""
    found: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            inside = [n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
            found |= {f"{node.name}.{method.name}" for method in inside}
    return found


@written
def test_the_file_map_lists_what_is_there() -> None:
    for path in mapped(fenced(section("File map"))):
        assert (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file(), path


@written
def test_the_file_map_lists_every_package() -> None:
    listed = {PurePosixPath(path).as_posix() for path in mapped(fenced(section("File map")))}
    packages = {name_of(path.parent) for path in python_files(*CODE)}
    assert packages - listed == set()


@written
def test_follow_one_video_names_functions_that_exist() -> None:
    entries = ENTRY.findall(section("Follow one video"))
    assert len(entries) >= 5
    for file, function in entries:
        assert (ROOT / file).is_file(), file
        assert function in definitions(tree(ROOT / file)), f"{file}:{function}"


def test_a_tree_is_read_as_it_is_drawn() -> None:
    drawn = "```\nschemas/     words\n  names.py   subjects\nshared/\n  bus/       NATS\n    fake.py\nREADME.md\n```"
    paths = ["schemas/", "schemas/names.py", "shared/", "shared/bus/", "shared/bus/fake.py", "README.md"]
    assert mapped(fenced(drawn)) == paths


def test_definitions_are_functions_classes_and_methods() -> None:
    module = ast.parse("class A:\n    async def b(self): ...\ndef c():\n    def d(): ...")
    assert definitions(module) == {"A", "A.b", "b", "c", "d"}
