"""Scratch folders: gone with the process, swept after a killed one, left alone while it lives."""

import os
import subprocess
import sys
from pathlib import Path

from services.ingest.scratch import PREFIX, job_folder, scratch


def test_folders_go_with_their_block(tmp_path: Path) -> None:
    with scratch(tmp_path / "new") as folder, job_folder(folder) as job:
        (job / "source").write_bytes(b"x")
    assert list((tmp_path / "new").iterdir()) == []


def test_only_what_a_dead_process_left_is_swept(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead, living, foreign = (
        tmp_path / name for name in (f"{PREFIX}{ended.pid}-a", f"{PREFIX}{os.getpid()}-b", "other")
    )
    for folder in (dead, living, foreign):
        folder.mkdir()
        (folder / "file").write_bytes(b"x")
    with scratch(tmp_path):
        assert not dead.exists()
        assert living.exists()
        assert foreign.exists()
