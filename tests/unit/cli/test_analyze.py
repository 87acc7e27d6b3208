"""`moontide analyze` against a scripted gateway: what it sends, what it prints, and how it ends."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.cli import question
from services.cli.__main__ import run
from tests.unit.cli.scripted_gateway import MEDIA, MODEL, TIMINGS, TRACE_ID, ScriptedGateway

MP4 = b"\0\0\0\x18ftypisom" + b"x" * 100
PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 100
MEDIA_FIELDS = ("kind", "width", "height", "duration_seconds", "sampled_frames", "chunks")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(question, "MAX_PAUSE_SECONDS", 0.0)


def file(path: Path, data: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def analyze(gateway: ScriptedGateway, *arguments: str) -> int:
    return run(["analyze", *arguments, "--ask", "What moves?", "--url", gateway.url])


def objects(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_one_object_per_input_with_everything_in_it(
    gateway: ScriptedGateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = file(tmp_path / "clip.mp4", MP4)
    assert analyze(gateway, clip, "--json") == 0
    (result,) = objects(capsys)
    total_seconds = result["timings"].pop("total_seconds")
    assert result == {
        "input": clip,
        "answer": "A ball bounces.",
        "reasoning": "It moves.",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 702, "completion_tokens": 4, "media_tokens": 588},
        "evidence": [],
        "media": {name: MEDIA[name] for name in MEDIA_FIELDS},
        "timings": TIMINGS,
        "model": MODEL,
        "trace_id": TRACE_ID,
    }
    assert 0 < total_seconds < 60


def test_the_file_is_uploaded_and_asked_about(gateway: ScriptedGateway, tmp_path: Path) -> None:
    clip, image = file(tmp_path / "clip.bin", MP4), file(tmp_path / "image", PNG)
    options = ("--max-tokens", "9", "--temperature", "0", "--seed", "7", "--no-thinking", "--model", "other")
    assert analyze(gateway, clip, image, "--json", *options) == 0
    assert sorted(gateway.uploads) == [("clip.bin", MP4, "video"), ("image", PNG, "image")]
    kinds = {body["messages"][0]["content"][0]["type"] for body in gateway.requests}
    assert kinds == {"video_url", "image_url"}
    for body in gateway.requests:
        media, text = body.pop("messages")[0]["content"]
        assert media[media["type"]]["url"] in ("ms://file-1", "ms://file-2")
        assert text == {"type": "text", "text": "What moves?"}
        assert body == {
            "model": "other",
            "stream": True,
            "stream_options": {"include_usage": True},
            "seed": 7,
            "max_tokens": 9,
            "temperature": 0.0,
            "thinking": {"type": "disabled"},
        }


def test_a_bad_input_fails_alone_and_results_keep_the_order(
    gateway: ScriptedGateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [
        file(tmp_path / "a.mp4", MP4),
        file(tmp_path / "b.mp4", b"broken"),
        str(tmp_path / "missing.png"),
        file(tmp_path / "notes.txt", b"words"),
        file(tmp_path / "c.png", PNG),
    ]
    assert analyze(gateway, *paths, "--json") == 1
    results = objects(capsys)
    assert [result["input"] for result in results] == paths
    codes = [result.get("error", {}).get("code") for result in results]
    assert codes == [None, "media.undecodable", "input.unreadable", "input.unknown_kind", None]
    assert results[1]["error"] == {
        "code": "media.undecodable",
        "message": "b.mp4 cannot be decoded",
        "status": 400,
        "param": "b.mp4",
    }


def test_a_directory_means_the_media_inside_and_few_are_asked_at_once(
    gateway: ScriptedGateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = [file(tmp_path / "in" / f"{number:03}.png", PNG) for number in range(90)]
    file(tmp_path / "in" / "notes.txt", b"words")
    assert analyze(gateway, str(tmp_path / "in"), "--json") == 0
    assert [result["input"] for result in objects(capsys)] == expected
    assert 1 <= gateway.most_at_once <= 4


def test_a_directory_without_media_is_a_failed_input(
    gateway: ScriptedGateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert analyze(gateway, str(tmp_path), "--json") == 1
    assert objects(capsys)[0]["error"]["code"] == "input.unreadable"


def test_a_broken_connection_is_tried_again_and_nothing_is_told_twice(
    gateway: ScriptedGateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.cuts = 2
    assert analyze(gateway, file(tmp_path / "clip.mp4", MP4)) == 0
    told = capsys.readouterr()
    assert told.out.count("It moves.") == 1
    assert told.out.count("A ball bounces.") == 1
    assert told.err.count("trying again") == 2
    assert len({json.dumps(body["seed"]) for body in gateway.requests}) == 1
    assert "588 of media" in told.out
    assert "26 frames in 7 chunks" in told.out
    assert TRACE_ID in told.out


def test_a_refusal_that_may_pass_is_tried_again_within_bounds(
    gateway: ScriptedGateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    busy = (503, {"Retry-After": "0"}, {"message": "no engine", "code": "engine.missing"})
    gateway.refusals = [busy] * (question.MAX_ATTEMPTS - 1)
    clip = file(tmp_path / "clip.mp4", MP4)
    assert analyze(gateway, clip, "--json") == 0
    gateway.refusals = [busy] * question.MAX_ATTEMPTS
    assert analyze(gateway, clip, "--json") == 1
    answered, refused = objects(capsys)
    assert answered["answer"] == "A ball bounces."
    assert refused["error"]["code"] == "engine.missing"


def test_a_refusal_that_stays_is_not_tried_again(gateway: ScriptedGateway, tmp_path: Path) -> None:
    gateway.refusals = [(400, {}, {"message": "no such model", "code": "model.unknown", "param": "model"})]
    assert analyze(gateway, file(tmp_path / "clip.mp4", MP4), "--json") == 1
    assert len(gateway.requests) == 1


def test_several_inputs_are_told_one_after_the_other(
    gateway: ScriptedGateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [file(tmp_path / name, data) for name, data in (("a.mp4", MP4), ("b.png", b"broken"), ("c.png", PNG))]
    assert analyze(gateway, *paths) == 1
    lines = capsys.readouterr().out.splitlines()
    order = [line for line in lines if line.startswith(("──", "A ball", "failed"))]
    assert [line.split()[0] for line in order] == ["──", "A", "──", "failed:", "──", "A"]


def test_a_gateway_that_is_not_there_is_a_failure_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = file(tmp_path / "clip.mp4", MP4)
    assert run(["analyze", clip, "--ask", "What?", "--url", "http://127.0.0.1:9"]) == 1
    assert "no connection to http://127.0.0.1:9" in capsys.readouterr().err
