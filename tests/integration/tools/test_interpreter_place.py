"""The sandbox works wherever this project's own interpreter lies, below ``/tmp`` too."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.e2e.stack import ROOT

PACKAGES = next(path for path in sys.path if path.endswith("site-packages"))


def test_an_interpreter_below_tmp_is_seen_inside() -> None:
    """It stands in a link to this one: then its folder has to be found inside, where ``/tmp`` is a private one."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        place = Path(folder)
        place.chmod(0o755)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        environment = dict(os.environ) | {"PYTHONPATH": f"{ROOT}:{PACKAGES}"}
        told = subprocess.run(
            [place / "bin/python", "-P", "-m", "services.cli", "doctor", "--json"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert '"sandbox"' in told.stdout
    assert "no sandbox can be made" not in told.stdout
