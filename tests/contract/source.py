"""The project's own files, read once per question: paths, texts and syntax trees. Knows none of the rules."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = ("schemas", "shared", "kernels", "services")
TEXT = frozenset(
    {".py", ".md", ".toml", ".txt", ".cfg", ".ini", ".yaml", ".yml", ".json", ".sh", ".html", ".js", ".css"}
)
SKIPPED = frozenset({"__pycache__", "build", "dist", "node_modules"})


def python_files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in _walk(ROOT / folder) if path.suffix == ".py"]


def text_files() -> list[Path]:
    """Everything that people wrote, in every folder that is not hidden."""
    return [path for path in _walk(ROOT) if path.suffix in TEXT or path.name in ("Makefile", "Dockerfile", "LICENSE")]


def _walk(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in SKIPPED or path.name.endswith(".egg-info"):
            continue
        if path.is_dir() and not path.is_symlink() and not (path / "pyvenv.cfg").exists():
            yield from _walk(path)
        elif path.is_file():
            yield path


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def strings(module: ast.Module) -> list[ast.Constant]:
    """String constants that are values: docstrings are left out, pieces of f-strings are not."""
    prose = {
        node.value for node in ast.walk(module) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [node for node in ast.walk(module) if _is_string(node) and node not in prose]  # type: ignore[misc]


def _is_string(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def imports(module: ast.Module) -> set[str]:
    """Full names of what is imported, wherever the import stands."""
    found: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found
