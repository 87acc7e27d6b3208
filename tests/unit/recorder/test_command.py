"""``python -m services.recorder trace|render``: what people and programs read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from schemas import codec
from schemas.telemetry import ATTR_ERROR_TYPE, ATTR_REQUEST_ID, Trace
from services.recorder.command import run
from services.recorder.rendering import BAR_CELLS, bar, human_seconds
from services.recorder.store import SpanStore

from .messages import SECOND, TRACE, beat, ended, span, started


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "spans.sqlite"
    store = SpanStore.open(path)
    store.write(
        [
            ended("root", until=2, instance="gateway-1", attributes={ATTR_REQUEST_ID: "req-1"}),
            ended("broken", "root", at=0.5, status="error", attributes={ATTR_ERROR_TYPE: "engine.busy"}),
            started("killed", "root", at=1, instance="engine-2"),
            beat("engine-2", at=1.5),
        ],
        heard=1,
    )
    store.close()
    return path


def test_json(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trace", "req-1", "--database", str(database), "--json"]) == 0
    trace = json.loads(capsys.readouterr().out)
    assert trace["trace_id"] == TRACE
    assert [span["span_id"] for span in trace["spans"]] == ["root", "broken", "killed"]
    assert trace["spans"][2] == {
        "span_id": "killed",
        "parent_span_id": "root",
        "name": "name of killed",
        "service": "engine",
        "instance": "engine-2",
        "kind": "internal",
        "start_unix_nanoseconds": SECOND,
        "end_unix_nanoseconds": 3 * SECOND // 2,
        "duration_seconds": 0.5,
        "status": "lost",
        "status_message": "",
        "attributes": {},
        "events": [],
    }


def test_tree(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trace", TRACE, "--database", str(database)]) == 0
    title, root, broken, killed = capsys.readouterr().out.splitlines()
    assert title == f"trace {TRACE} · 3 spans · 2.00 s"
    assert root.startswith("name of root ")
    assert broken.startswith("├─ name of broken")
    assert "engine.busy" in broken
    assert killed.startswith("└─ name of killed")
    assert "+1.00 s" in killed
    assert "500.0 ms" in killed
    assert "lost" in killed


def test_render_reads_what_json_prints_and_what_the_gateway_answers(database: Path) -> None:
    printed = _module("trace", "req-1", "--database", str(database), "--json")
    assert printed.returncode == 0
    answer = codec.encode_json(Trace(trace_id=TRACE, spans=(span("root", until=2.0),)))
    for document, spans in ((printed.stdout, 3), (answer, 1)):
        tree = _module("render", stdin=document)
        assert (tree.returncode, tree.stderr) == (0, b"")
        assert f"{spans} spans · 2.00 s" in tree.stdout.decode()
    again = _module("render", "--json", stdin=printed.stdout)
    assert json.loads(again.stdout) == json.loads(printed.stdout)


def _module(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-X", "utf8", "-m", "services.recorder", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("id", "database_name", "says"),
    [("no-such", "spans.sqlite", "no trace is recorded for no-such"), ("x", "missing.sqlite", "cannot be used")],
)
def test_what_is_not_found_is_said(
    database: Path, capsys: pytest.CaptureFixture[str], id: str, database_name: str, says: str
) -> None:
    assert run(["trace", id, "--database", str(database.with_name(database_name))]) == 1
    output = capsys.readouterr()
    assert (output.out, says in output.err) == ("", True)


def test_a_bad_database_does_not_hide_the_good_ones(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = database.with_name("empty.sqlite")
    bad.touch()
    assert run(["trace", "req-1", "--database", str(bad), "--database", str(database), "--json"]) == 0
    output = capsys.readouterr()
    assert output.err.startswith(f"{bad}: ")
    assert json.loads(output.out)["trace_id"] == TRACE


def test_several_databases_are_one(database: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    store = SpanStore.open(other)
    store.write([ended("killed", "root", at=1, until=1.8, instance="engine-2"), ended("more", "killed", at=1)], heard=1)
    store.close()
    databases = ["--database", str(other), "--database", str(database)]
    assert run(["trace", "req-1", *databases, "--json"]) == 0
    spans = {span["span_id"]: span["status"] for span in json.loads(capsys.readouterr().out)["spans"]}
    assert spans == {"root": "ok", "broken": "error", "killed": "ok", "more": "ok"}


def test_bad_use_exits_with_two() -> None:
    for arguments in (["trace"], ["nonsense"], ["trace", "x"]):
        with pytest.raises(SystemExit) as raised:
            run(arguments)
        assert raised.value.code == 2


def test_foreign_text_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    store = SpanStore.open(tmp_path / "spans.sqlite")
    store.write([ended("\x1b[2J[red]\n\r")], heard=1)
    store.close()
    assert run(["trace", TRACE, "--database", str(tmp_path / "spans.sqlite")]) == 0
    output = capsys.readouterr().out
    assert "\x1b" not in output
    assert "name of ?[2J[red]??" in output


def test_bars_lie_where_the_span_lies() -> None:
    full = span("a", at=0, until=8)
    assert bar(full, 0, 8 * SECOND) == "█" * BAR_CELLS
    late = bar(span("b", at=6, until=8), 0, 8 * SECOND)
    assert late == "·" * (BAR_CELLS * 3 // 4) + "█" * (BAR_CELLS // 4)
    assert bar(span("c", at=8, until=8), 0, 8 * SECOND).endswith("·█")
    assert bar(span("d", at=4, until=None), 0, 8 * SECOND).endswith("█")
    assert bar(span("e", at=0, until=0), 0, 0).count("█") == 1


def test_seconds_for_people() -> None:
    assert [human_seconds(value) for value in (0.00012, 0.0123, 3.2)] == ["120 µs", "12.3 ms", "3.20 s"]
