"""A repository's HEAD as a git bundle, which travels as one file.

Input: a folder inside a git repository. Output: a bundle file. What is not committed does not travel.
"""

import subprocess
from pathlib import Path

from shared.errors import BadInput

SECONDS = 300.0


def make(repository: Path, file: Path) -> None:
    """Writes the bundle. Raises BadInput when that is no repository with a commit, or git is missing."""
    _git(repository, "bundle", "create", "--quiet", str(file.absolute()), "HEAD")


def has_changes(repository: Path) -> bool:
    """Whether something is not committed. Raises BadInput."""
    return _git(repository, "status", "--porcelain", "--untracked-files=no") != ""


def _git(repository: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(repository), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadInput("input.git", f"git cannot be run on {repository}: {error}", param=str(repository)) from error
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise BadInput("input.repository", f"{repository}: {reason}", param=str(repository))
    return done.stdout
