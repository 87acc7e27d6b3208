"""Rules that hold for the whole tree and that no linter knows."""

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas import names
from schemas import telemetry as words

from .source import CODE, ROOT, imports, name_of, python_files, strings, text_files, tree

ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
INPUT_OUTPUT_MODULES = {
    *("pathlib", "io", "socket", "requests", "urllib", "http", "subprocess", "shutil", "tempfile", "sqlite3", "glob"),
    *("aiohttp", "asyncio", "mmap", "pickle", "safetensors", "logging"),
}
INPUT_OUTPUT_CALLS = {"open", "print", "input", "torch.load", "torch.save", "torch.from_file"}
INPUT_OUTPUT_CALLS |= {
    f"{numpy}.{call}" for numpy in ("np", "numpy") for call in ("load", "save", "fromfile", "memmap")
}
LOCAL_PATH = re.compile(r"(?<![\w.}>])/(?:work|tmp|home|root|Users|mnt)/\w")


def places(rule: Callable[[ast.Module], list[int]], files: list[Path]) -> list[str]:
    """``file:line`` wherever the rule finds something."""
    return [f"{name_of(path)}:{line}" for path in files for line in rule(tree(path))]


def others(*allowed: str) -> list[Path]:
    """Code files outside ``allowed`` (files or folders)."""
    return [path for path in python_files(*CODE) if not name_of(path).startswith(allowed)]


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def environment_reads(module: ast.Module) -> list[int]:
    found = [n.lineno for n in ast.walk(module) if isinstance(n, ast.Attribute) and dotted(n) in _of_os()]
    return found + [0 for name in imports(module) if name in _of_os()]


def _of_os() -> set[str]:
    return {f"os.{name}" for name in ENVIRONMENT}


def subject_strings(module: ast.Module) -> list[int]:
    found = [node.lineno for node in strings(module) if names.PREFIX in str(node.value)]
    return found + [n.lineno for n in ast.walk(module) if isinstance(n, ast.Attribute) and dotted(n) == "names.PREFIX"]


def spans_of_nobody(module: ast.Module) -> list[int]:
    """Spans that begin with a message, in a file that never says whose they are: their tenant would not see them."""
    mentioned = {node.id for node in ast.walk(module) if isinstance(node, ast.Name)}
    if mentioned & {"request_attributes", "span_attributes"}:
        return []
    calls = [n for n in ast.walk(module) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    spans = [n for n in calls if n.func.attr == "span"]  # type: ignore[union-attr]
    return [n.lineno for n in spans if any(keyword.arg == "parent" for keyword in n.keywords)]


def span_names_in_place(module: ast.Module) -> list[int]:
    calls = [n for n in ast.walk(module) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    spans = [n for n in calls if n.func.attr == "span" and n.args]  # type: ignore[union-attr]
    return [n.lineno for n in spans if isinstance(n.args[0], ast.Constant | ast.JoinedStr | ast.BinOp)]


def attribute_names_in_place(module: ast.Module) -> list[int]:
    known = {value for name, value in vars(words).items() if name.startswith("ATTR_")}
    return [node.lineno for node in strings(module) if node.value in known]


def nats_imports(module: ast.Module) -> list[int]:
    return [0 for name in imports(module) if name.split(".")[0] == "nats"]


def input_and_output(module: ast.Module) -> list[int]:
    calls = [n for n in ast.walk(module) if isinstance(n, ast.Call) and dotted(n.func) in INPUT_OUTPUT_CALLS]
    return [n.lineno for n in calls] + [0 for name in imports(module) if name.split(".")[0] in INPUT_OUTPUT_MODULES]


INSIDE_SANDBOXES = "services/tools/inside/"
"""Programs of a sandbox: they import nothing of ours, and their environment is the sandbox's own."""


def test_the_environment_is_read_in_one_file() -> None:
    assert places(environment_reads, others("shared/config.py", INSIDE_SANDBOXES)) == []


def test_subjects_are_spelled_in_one_file() -> None:
    assert places(subject_strings, others("schemas/names.py")) == []


def test_span_names_are_spelled_in_one_file() -> None:
    assert places(span_names_in_place, others("schemas/telemetry.py")) == []


def test_attribute_names_are_spelled_in_one_file() -> None:
    assert places(attribute_names_in_place, others("schemas/telemetry.py")) == []


def test_spans_that_begin_with_a_message_say_whose_they_are() -> None:
    assert places(spans_of_nobody, others("shared/telemetry/")) == []


def test_nats_is_imported_by_the_bus_only() -> None:
    assert places(nats_imports, others("shared/bus/")) == []


KERNEL_EDGES = ("kernels/cpu/library.py",)
"""The file that finds the compiled library beside itself."""


def test_kernels_do_no_input_or_output() -> None:
    inside = [path for path in python_files("kernels") if name_of(path) not in KERNEL_EDGES]
    assert places(input_and_output, inside) == []


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    found = []
    for path in text_files():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if LOCAL_PATH.search(line):
                found.append(f"{name_of(path)}:{number}")
    assert found == []


def test_every_code_file_says_what_it_is_for() -> None:
    silent = [
        name_of(path) for path in python_files(*CODE) if path.stat().st_size and not ast.get_docstring(tree(path))
    ]
    assert silent == []


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (environment_reads, "import os\nos.environ['A']"),
        (environment_reads, "from os import getenv"),
        (subject_strings, f"f'{names.PREFIX}.chat.{{model}}'"),
        (subject_strings, "x = names.PREFIX + '.chat'"),
        (span_names_in_place, "with telemetry.span('chat'): pass"),
        (span_names_in_place, "with telemetry.span(f'chat {model}'): pass"),
        (spans_of_nobody, "with telemetry.span(NAME, parent=context.traceparent): pass"),
        (attribute_names_in_place, f"span.set_attribute({words.ATTR_MODEL!r}, 1)"),
        (nats_imports, "def f():\n    from nats.aio.client import Client"),
        (input_and_output, "import torch\ntorch.load('x')"),
        (input_and_output, "from pathlib import Path"),
        (input_and_output, "open('x')"),
    ],
)
def test_each_rule_finds_what_it_forbids(rule: Callable[[ast.Module], list[int]], source: str) -> None:
    assert rule(ast.parse(source)) != []


def test_the_code_is_found() -> None:
    assert ROOT.joinpath("pyproject.toml").exists()
    assert "schemas/names.py" in [name_of(path) for path in python_files(*CODE)]
