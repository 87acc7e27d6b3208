"""The mission played with the plainest tools there can be: its script and its judge agree, and the judge can say no."""

import contextlib
import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.endpoints.conversation import Conversation, Said, Turn
from tests.endpoints.harbour import code_word
from tests.missions import library, pier, repository
from tests.missions.judge import _answer_problems, _patch_problems
from tests.missions.pictures import read_chart

SEED = 3


class PlainTools:
    """Over one folder, without any sandbox."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.variables: dict[str, Any] = {}
        self.shown: tuple[bytes, ...] = ()
        self.used: set[str] = set()

    def run(self, name: str, wanted: dict[str, Any]) -> Said:
        self.used.add(name)
        self.shown = ()
        known = {"$web_search": self.web_search}
        text = known.get(name, getattr(self, name, self.harbour))(**wanted)
        return Said("tool", text, self.shown, len(self.shown))

    def python(self, code: str) -> str:
        out = io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out):
            exec(code.replace("from tides import level", _IMPORT), self.variables)
        return out.getvalue()

    def shell(self, command: str) -> str:
        environment = {"PATH": os.environ["PATH"]}
        done = subprocess.run(command, shell=True, cwd=self.folder, capture_output=True, text=True, env=environment)
        return f"{done.stdout}exit code {done.returncode}"

    def list_files(self, path: str = ".", depth: int = 1) -> str:
        return "\n".join(sorted(str(found) for found in (self.folder / path).iterdir()))

    def read_file(self, path: str, **_: int) -> str:
        return (self.folder / path).read_text()

    def write_file(self, path: str, content: str) -> str:
        (self.folder / path).parent.mkdir(exist_ok=True)
        (self.folder / path).write_text(content)
        return "written"

    def edit_file(self, path: str, old: str, new: str) -> str:
        text = (self.folder / path).read_text()
        assert text.count(old) == 1
        return self.write_file(path, text.replace(old, new))

    def search_files(self, **_: str) -> str:
        return "found"

    def apply_patch(self, patch: str) -> str:
        subprocess.run(("git", "apply"), input=patch, text=True, cwd=self.folder, check=True)
        return "applied"

    def web_search(self, query: str, limit: int = 5) -> str:
        name = "gauge.md" if "datum" in query else "master.md"
        return (self.folder.parent / "library" / name).read_text()

    def fetch(self, url: str) -> str:
        return f"the code word is {code_word(url.rpartition('/')[2])} today"

    def look(self, path: str, question: str) -> str:
        self.shown = ((self.folder / path).read_bytes(),)
        return "shown"

    def harbour(self, text: str) -> str:
        return f"done: {text}"


_IMPORT = "import importlib.util as u; s = u.spec_from_file_location('level', 'tides/level.py'); level = u.module_from_spec(s); s.loader.exec_module(level)"  # noqa: E501 - our own `tides` would be any folder's


def play(folder: Path) -> tuple[PlainTools, list[Turn]]:
    """Every turn up to the answer."""
    folder.mkdir()
    (folder / "repository.bundle").write_bytes(repository.bundle(folder, SEED))
    repository.git(folder, "clone", "-q", str(folder / "repository.bundle"), "work")
    library.write(folder / "library", SEED)
    tools, turns = PlainTools(folder / "work"), list[Turn]()
    said = [Said("user", pier.goal(SEED, "m1", f"http://127.0.0.1:80/notice/{SEED}"))]
    script, calls = pier.script(SEED), 0
    while not turns or turns[-1].calls:
        turns.append(script(Conversation(said, calls)))
        calls += len(turns[-1].calls)
        said.append(Said("assistant", turns[-1].content))
        said += [tools.run(call.name, json.loads(call.arguments)) for call in turns[-1].calls]
    return tools, turns


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[PlainTools, list[Turn]]:
    return play(tmp_path_factory.mktemp("pier") / "here")


def test_sixty_steps_use_every_tool_and_end_with_the_right_answer(played: tuple[PlainTools, list[Turn]]) -> None:
    tools, turns = played
    assert len(turns) == 60
    assert tools.used == set(pier.TOOLS)
    assert _answer_problems(turns[-1].content, SEED, sees=True) == []
    assert any(len(turn.calls) == 3 for turn in turns)


def test_the_chart_is_one_and_the_patch_makes_red_tests_green(
    played: tuple[PlainTools, list[Turn]], tmp_path: Path
) -> None:
    tools, _ = played
    chart = read_chart((tools.folder / "chart.png").read_bytes())
    assert (chart.bars, chart.width) == (repository.HOURS, 288)
    patch = subprocess.run(("git", "diff"), cwd=tools.folder, capture_output=True, check=True).stdout
    assert _patch_problems(patch, SEED, tmp_path / "good") == []
    half = patch.replace(b"levels.index(max(levels))", b"levels.index(min(levels)) ")
    assert _patch_problems(half, SEED, tmp_path / "half") == ["the patched tests are red"]
    (wrong,) = _patch_problems(b"no patch", SEED, tmp_path / "none")
    assert wrong.startswith("the patch does not apply")


def test_a_wrong_answer_is_told_apart(played: tuple[PlainTools, list[Turn]]) -> None:
    _, turns = played
    assert _answer_problems(turns[-1].content, SEED + 1, sees=True)
    assert _answer_problems("I am done.", SEED, sees=True)
