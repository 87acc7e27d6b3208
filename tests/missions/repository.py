"""A small repository with two faults, its tests, and a day of measurements: what the mission works on.

Input: a seed and a folder. Output: a git bundle, the same bytes of files for the same seed; and the judgement of a
patch on a fresh clone. Must not know agents.
"""

import os
import random
import subprocess
import sys
from pathlib import Path

HOURS = 24

LEVEL = '''"""Levels of the tide, in metres."""


def mean(levels):
    return sum(levels) / (len(levels) + 1)


def highest(levels):
    """Position of the highest level."""
    return levels.index(min(levels))


def feet(metres):
    return metres / 0.3048
'''
TESTS = """import unittest

from tides import level


class Levels(unittest.TestCase):
    def test_mean(self):
        self.assertAlmostEqual(level.mean([1.0, 2.0, 6.0]), 3.0)

    def test_highest(self):
        self.assertEqual(level.highest([1.0, 6.0, 2.0]), 1)

    def test_feet(self):
        self.assertAlmostEqual(level.feet(0.3048), 1.0)


if __name__ == "__main__":
    unittest.main()
"""
README = """# tides

Levels of the tide at the pier, and what can be said about a day of them. `python3 -m unittest` runs the tests.
"""


def measurements(seed: int) -> list[float]:
    """Metres, one an hour; no two are equal."""
    chance = random.Random(seed)
    return [round(1 + hour % 7 + chance.randrange(100) / 1000 + hour / 10, 3) for hour in range(HOURS)]


def files(seed: int) -> dict[str, str]:
    rows = "".join(f"{hour},{level}\n" for hour, level in enumerate(measurements(seed)))
    return {
        "README.md": README,
        "tides/__init__.py": "",
        "tides/level.py": LEVEL,
        "tests/__init__.py": "",
        "tests/test_level.py": TESTS,
        "data/tides.csv": f"hour,level\n{rows}",
    }


def bundle(folder: Path, seed: int) -> bytes:
    """One commit on ``main``."""
    source = folder / "source"
    for name, text in files(seed).items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(source, "init", "-q", "-b", "main")
    git(source, "add", "-A")
    git(source, "commit", "-q", "-m", "A day at the pier")
    git(source, "bundle", "create", "-q", str(folder / "repository.bundle"), "HEAD", "main")
    return (folder / "repository.bundle").read_bytes()


def git(directory: Path, *arguments: str) -> None:
    """Raises CalledProcessError. The commit has the same name whoever makes it."""
    fixed = {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        **{f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in _WHO.items()},
    }
    subprocess.run(("git", *arguments), cwd=directory, env=os.environ | fixed, check=True, timeout=60)


_WHO = {"NAME": "pier", "EMAIL": "pier@example.invalid", "DATE": "2026-01-01T00:00:00+00:00"}


def tests_pass(directory: Path) -> bool:
    command = [sys.executable, "-B", "-m", "unittest", "-q", "tests.test_level"]
    done = subprocess.run(command, cwd=directory, capture_output=True, env=_without_ours(), timeout=60)
    return done.returncode == 0


def patched_clone(folder: Path, repository: bytes, patch: bytes) -> Path:
    """A fresh clone with the patch applied. Raises CalledProcessError when it does not apply."""
    (folder / "fresh.bundle").write_bytes(repository)
    (folder / "run.patch").write_bytes(patch)
    git(folder, "clone", "-q", str(folder / "fresh.bundle"), "clone")
    git(folder / "clone", "apply", "--index", str(folder / "run.patch"))
    return folder / "clone"


def _without_ours() -> dict[str, str]:
    """The environment without our own packages: the repository has a ``tests`` of its own."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
