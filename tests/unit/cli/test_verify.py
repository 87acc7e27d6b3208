"""The pure parts of `moontide verify`, and its use."""

import json
import shlex
from pathlib import Path

import jsonschema
import pytest

from services.cli.__main__ import run
from services.cli.verify.exchange import Event, Exchange, curl
from services.cli.verify.judgement import Defect, Refused, shaped_error
from services.cli.verify.key import Key
from services.cli.verify.latency import quantile
from services.cli.verify.probe import ascii_json
from services.cli.verify.reply import gathered, whole
from services.cli.verify.schemas import cases
from services.cli.verify.scorecard import figures
from services.cli.verify.table import CHECKS, chosen
from tests.endpoints.instances import fits, instance

URL = "http://127.0.0.1:1/v1/chat/completions"


def test_there_are_many_different_schemas_and_always_the_same() -> None:
    found = cases()
    assert len(found) >= 100
    assert len({json.dumps(case.schema, sort_keys=True) for case in found}) == len(found)
    assert len({case.name for case in found}) == len(found)
    assert found == cases()


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name.encode("ascii", "replace").decode())
def test_every_schema_is_one_with_an_object_at_its_root_and_can_be_satisfied(case) -> None:
    jsonschema.Draft202012Validator.check_schema(case.schema)
    assert case.schema["type"] == "object"
    assert fits(instance(case.schema), case.schema, case.schema)
    assert isinstance(instance(case.schema), dict)


def test_every_check_has_a_name_of_its_own_and_a_promise() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert all(check.promise and check.name.count(".") == 1 for check in CHECKS)


def test_checks_are_chosen_by_name_and_by_topic() -> None:
    assert [check.name for check in chosen(["usage.total", "errors"])] == [
        *("usage.total", "errors.key", "errors.model", "errors.path", "errors.method")
    ]
    with pytest.raises(ValueError, match="nonsense"):
        chosen(["nonsense", "usage"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify"],
        ["verify", "ftp://example.org/v1"],
        ["verify", "http://user:secret@example.org/v1"],
        ["verify", "http://127.0.0.1:1/v1", "--only", "nonsense"],
        ["verify", "http://127.0.0.1:1/v1", "--key-file", "/nowhere/key"],
        ["verify", "http://127.0.0.1:1/v1", "--concurrency", "0"],
        ["verify", "http://127.0.0.1:1/v1", "--extra", "[]"],
    ],
)
def test_bad_use_ends_with_2(arguments: list[str]) -> None:
    assert run(arguments) == 2


def test_nobody_there_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", "http://127.0.0.1:1/v1"]) == 1
    assert "connection failed" in capsys.readouterr().err


def test_the_list_names_every_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", "--list", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["checks"]] == [check.name for check in CHECKS]


def test_a_key_is_one_line_and_shown_nowhere(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-0123456789abcdef\n")
    key = Key.read(tmp_path / "key")
    assert key.redact("no sk-0123456789abcdef, nor …456789ab…") == "no [key], nor …[key]…"
    assert "0123" not in repr(key)
    (tmp_path / "key").write_text("two lines\nof secrets")
    with pytest.raises(ValueError, match="one line") as raised:
        Key.read(tmp_path / "key")
    assert "secrets" not in str(raised.value)


def test_a_command_survives_the_shell() -> None:
    body = {"content": 'it\'s $HOME `x` "q" \\ é 🎞\n'}
    command = curl(Exchange("POST", URL, ascii_json(body)), has_key=True)
    words = shlex.split(command)
    assert command.isascii()
    assert json.loads(words[words.index("--data-binary") + 1]) == body
    assert "Authorization: Bearer $MOONTIDE_VERIFY_KEY" in words
    assert "Authorization" not in curl(Exchange("GET", URL), has_key=False)
    assert curl(Exchange("GET", URL, at_once=8), has_key=False).startswith("for i in $(seq 8); do curl ")


@pytest.mark.parametrize(
    ("status", "data", "verdict"),
    [
        (400, b'{"error": {"message": "no tools", "type": "x"}}', Refused),
        (400, b'{"detail": "no tools"}', Refused),
        (400, b"", Defect),
        (500, b'{"error": {"message": "no tools", "type": "x"}}', Defect),
        (401, b'{"error": {"message": "no key", "type": "x"}}', Defect),
        (200, b"<html>", Defect),
        (200, b'{"choices": "none"}', Defect),
    ],
)
def test_a_refusal_is_told_from_a_defect(status: int, data: bytes, verdict: type[Exception]) -> None:
    with pytest.raises(verdict):
        whole(Exchange("POST", URL, status=status, data=data))


@pytest.mark.parametrize(
    ("status", "data"),
    [(200, b"{}"), (400, b'{"detail": "no"}'), (400, b'{"error": {"message": "no"}}'), (400, b"no"), (400, b"[1]")],
)
def test_only_openais_shape_is_a_good_refusal(status: int, data: bytes) -> None:
    with pytest.raises(Defect):
        shaped_error(Exchange("POST", URL, status=status, data=data), (400, 422))


def test_a_stream_is_gathered_whatever_shape_its_pieces_have() -> None:
    deltas = [
        {"reasoning": "Hm. "},
        {"content": "Hi"},
        {"tool_calls": []},
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x"'}}]},
        {"tool_calls": [{"function": {"arguments": ": 1}"}}]},
        {"content": None},
    ]
    chunks = [{"choices": [{"delta": delta}]} for delta in deltas]
    chunks += [{"choices": [{"delta": {}, "finish_reason": "stop"}]}, {"choices": [], "usage": {"total_tokens": 3}}]
    events = tuple(Event(float(number), json.dumps(chunk).encode()) for number, chunk in enumerate(chunks))
    reply = gathered(Exchange("POST", URL, status=200, events=(*events, Event(9.0, b"cut{"), Event(9.0, b"[DONE]"))))
    assert reply.words == ("Hm. ", "Hi", [("f", '{"x": 1}')])
    assert (reply.finish_reasons, reply.count("total_tokens"), reply.word_seconds) == (["stop"], 3, [0.0, 1.0])


def test_an_error_inside_a_stream_is_a_defect() -> None:
    event = Event(0.1, b'{"error": {"message": "the engine died"}}')
    with pytest.raises(Defect, match="the engine died"):
        gathered(Exchange("POST", URL, status=200, events=(event,)))


def test_quantiles_are_of_the_nearest_rank() -> None:
    seconds = [number / 1000 for number in range(1, 21)]
    assert (quantile(seconds, 0.5), quantile(seconds, 0.95), quantile([], 0.5)) == (10.0, 19.0, 0.0)


def test_figures_fit_one_line() -> None:
    assert figures({"1": {"equal": 1}, "8": {"equal": 8}}) == "1: equal 1; 8: equal 8"
    assert figures(None) == ""
