"""A process's folder goes with it, or with the next process after a kill."""

import subprocess
import sys
from pathlib import Path

from services.tools.scratch import PREFIX, scratch

HOLDER = """
import os, sys, signal
from pathlib import Path
from services.tools.scratch import scratch
with scratch(Path(sys.argv[1])) as made:
    (made / "left").mkdir()
    print(made, flush=True)
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def held(root: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_folder_is_there_while_the_block_lasts(tmp_path: Path) -> None:
    with scratch(tmp_path / "new") as made:
        assert made.is_dir()
        (made / "deep" / "er").mkdir(parents=True)
    assert list((tmp_path / "new").iterdir()) == []


def test_the_living_keep_theirs_and_the_dead_do_not(tmp_path: Path) -> None:
    with held(tmp_path) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        with scratch(tmp_path) as mine:
            assert theirs.is_dir()
            assert mine != theirs
        other.communicate("")
    assert theirs.is_dir(), "it was killed"
    with scratch(tmp_path) as mine:
        assert list(tmp_path.iterdir()) == [mine]


def test_what_is_somebody_elses_stays(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / f"{PREFIX}file").write_text("a file by such a name")
    with scratch(tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"other", f"{PREFIX}file"}
