"""The command line of plans: three outputs, exit codes, and no torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from services.inference.plan import main, size

ROOT = Path(__file__).parents[3]
EIGHT = ["--model", "kimi-k2.6", "--gpu", "h200", "--count", "8", "--context", "262144"]
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # an import of it raises ImportError
from services.inference.__main__ import run
run(sys.argv[1:])
"""


def test_json_is_one_object_and_needs_no_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "plan", *EIGHT, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["fits"] is True
    assert {"fits", "devices", "host_bytes", "max_context", "decode_ceiling_tokens_per_second"} <= set(found)
    assert len(found["devices"]) == 8
    assert {"weight_bytes", "cache_bytes", "activation_bytes", "layers", "experts"} <= set(found["devices"][0])


def test_the_moontide_command_passes_everything_on() -> None:
    command = [sys.executable, "-m", "services.cli", "plan", "--model", "kimi-k2.6", "--hosts", "2", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    found = json.loads(done.stdout)
    assert (found["device"], found["count"], found["fits"]) == ("host", 2, True)
    help_text = subprocess.run([*command[:4], "--help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "usage: moontide plan" in help_text
    assert "--json" in help_text


def test_people_read_a_table_and_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", "kimi-k2.6", "--gpu", "h100", "--count", "4"]) == 0
    told = capsys.readouterr().out
    assert "196-383" in told  # the experts in host memory
    assert "must live in host memory" in told
    assert "Decode ceiling: " in told


def test_helm_values_are_a_map_by_model_and_shard(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*EIGHT, "--helm"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:5] == ["models:", "  kimi-k2-6:", '    name: "kimi-k2.6"']
    assert [line.strip() for line in lines if "shard" in line] == ["shards:", *(f"shard{n}:" for n in range(8))]


def test_there_are_no_values_for_what_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", "kimi-k2.6", "--gpu", "h100", "--count", "4", "--helm"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "does not fit" in told.err


def test_host_memory_is_per_host(capsys: pytest.CaptureFixture[str]) -> None:
    for hosts, fits in (("1", False), ("2", True)):
        arguments = ["--model", "kimi-k2.6", "--gpu", "h100", "--count", "4", "--hosts", hosts]
        assert main([*arguments, "--host-memory", "150GB", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["fits"] is fits


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--model", "kimi-k2.6", "--gpu", "abacus"],
        ["--model", "kimi-k2.6", "--count", "0"],
        ["--model", "kimi-k2.6", "--context", "262145"],
        ["--model", "kimi-k2.6", "--host-memory", "much"],
        ["--model", "kimi-k2.6", "--json", "--helm"],
    ],
)
def test_bad_use_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: moontide plan" in capsys.readouterr().err


def test_a_missing_directory_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", str(tmp_path)]) == 1
    assert "cannot read" in capsys.readouterr().err


def test_sizes() -> None:
    texts = ("512e9", "512GB", "512000000000", "0.5t", "2GiB")
    assert [size(text) for text in texts] == [512 * 10**9] * 3 + [5 * 10**11, 2**31]
