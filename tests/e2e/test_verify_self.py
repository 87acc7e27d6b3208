"""`moontide verify` judges moontide itself, in both sampling modes: what it lists, refuses and calls an error."""

import subprocess
from pathlib import Path

import pytest

from tests.e2e.stack import environment, moontide, running

TOPICS = ("models", "refusals", "errors")


@pytest.mark.parametrize("sampling", ["open", "kimi"])
def test_refusals_and_errors_get_full_marks(sampling: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys"  # without keys nobody is refused
    keys.write_text("a-key-of-this-test\n")
    with running(tmp_path, MOONTIDE_GATEWAY_SAMPLING=sampling, MOONTIDE_GATEWAY_KEYS_FILE=str(keys)) as stack:
        asked = ("--strict", "--key-file", str(keys), "--concurrency", "1", "--only", *TOPICS)
        command = moontide("verify", f"{stack.url}/v1", *asked)
        judged = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert judged.returncode == 0, judged.stdout + judged.stderr
