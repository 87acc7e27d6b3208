"""The main job in an empty network namespace: nothing but loopback is needed, and nothing is left running."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.media import draw_video
from tests.e2e.stack import ROOT, environment, moontide

LOOPBACK_UP = """
import fcntl, os, socket, struct, sys
with socket.socket() as s:
    SIOCSIFFLAGS, IFF_UP = 0x8914, 1
    fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP))
os.execv(sys.argv[1], sys.argv[1:])
"""


def _can_unshare() -> bool:
    return bool(shutil.which("unshare")) and subprocess.run(["unshare", "-rn", "true"], check=False).returncode == 0


@pytest.mark.skipif(not _can_unshare(), reason="this machine does not allow network namespaces")
def test_analyze_needs_no_network(tmp_path: Path) -> None:
    clip = draw_video(tmp_path / "clip.mp4")
    command = moontide("analyze", str(clip), "--ask", "What moves?", "--json", "--max-tokens", "8")
    done = subprocess.run(
        ["unshare", "-rn", "--kill-child", sys.executable, "-c", LOOPBACK_UP, *command],
        capture_output=True,
        text=True,
        timeout=100,
        env=environment(MOONTIDE_DATA_DIR=str(tmp_path / "data")),
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["media"]["sampled_frames"] == 6
