"""An endpoint as the model of a whole stack: no torch, no checkpoint, and the key stays in its file."""

import asyncio
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import openai
import pytest

from tests.e2e.answers import streamed, whole
from tests.e2e.media import ask, draw_image, draw_video
from tests.e2e.stack import ROOT, descendants, environment, moontide, running
from tests.endpoints.scripted import Script, ScriptedEndpoint, serving

T = TypeVar("T")
KEY = "sk-e2e-0123456789abcdef"
STAMP = re.compile(r"\[(\d\d):(\d\d):(\d\d\.\d{3})\]")


@contextmanager
def in_thread(server: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """In a thread of its own: the tests here wait for other processes."""
    loop, stack = asyncio.new_event_loop(), AsyncExitStack()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(stack.enter_async_context(server), loop).result(10)
    finally:
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def endpoint(script: Script) -> AbstractContextManager[ScriptedEndpoint]:
    return in_thread(serving(script))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    return file


def analyze(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        moontide("analyze", *arguments, "--json"),
        capture_output=True,
        text=True,
        timeout=90,
        env=environment(MOONTIDE_DATA_DIR=str(folder / "data")),
        cwd=ROOT,
        check=False,
    )


def times_before_images(body: dict[str, Any]) -> list[float]:
    """Seconds of the text before each image of the last message."""
    found = []
    for before, part in pairwise(body["messages"][-1]["content"]):
        if part["type"] == "image_url":
            match = STAMP.fullmatch(before["text"])
            assert match, before
            found.append(int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]))
    return found


def files_that_hold(text: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_analyze_through_an_endpoint_that_takes_images_only(tmp_path: Path, key_file: Path) -> None:
    image = tmp_path / "image.png"
    image.write_bytes(draw_image())
    clip, page = draw_video(tmp_path / "clip.mp4", seconds=6), tmp_path / "out.html"
    script = Script(defects=frozenset(("refuses_video",)), key=KEY)
    with endpoint(script) as scripted:
        options = ("--upstream", scripted.url, "--upstream-key-file", str(key_file), "--max-frames", "4")
        done = analyze(tmp_path, str(image), str(clip), "--ask", "What?", *options, "--report", str(page))
        bodies = [body for body in scripted.requests if "00:00:0" in json.dumps(body)]
    assert done.returncode == 0, done.stderr
    about_image, about_clip = (json.loads(line) for line in done.stdout.splitlines())
    assert about_image["model"] == about_clip["model"] == "scripted-model"
    assert "1 images and 0 videos" in about_image["answer"]
    assert about_image["evidence"] == []
    (body,) = bodies
    times = times_before_images(body)
    assert times == sorted(times)
    assert len(times) == about_clip["media"]["sampled_frames"] == 4
    assert times[0] == 0
    evidence = about_clip["evidence"]
    assert [one["timestamp_seconds"] for one in evidence] == pytest.approx(times), "its answer repeats what it was told"
    assert [one["frame"] for one in evidence] == [round(time * 25) for time in times], "of a clip with 25 per second"
    assert page.read_text().count('class="frame"') >= 3
    assert files_that_hold(KEY, tmp_path / "data") == []
    assert KEY not in done.stdout + done.stderr + page.read_text()


def test_a_real_film_goes_as_the_frames_that_were_chosen(tmp_path: Path) -> None:
    """All of them where they fit, else as many as allowed, from the first to near the end."""
    film = Path(os.environ.get("MOONTIDE_TEST_DATA_DIR", ROOT.parent / "shared" / "data")) / "media" / "nasa_13013.mp4"
    if not film.exists():
        pytest.skip(f"no {film} (set MOONTIDE_TEST_DATA_DIR)")
    with endpoint(Script(defects=frozenset(("refuses_video",)))) as scripted:
        options = ("--ask", "What happens, and when?", "--upstream", scripted.url)
        page = tmp_path / "out.html"
        done = [
            analyze(tmp_path, str(film), *options, "--report", str(page)),
            analyze(tmp_path, str(film), *options, "--max-frames", "8"),
        ]
        sent = [times_before_images(body) for body in scripted.requests if "image_url" in json.dumps(body)]
    found = [json.loads(one.stdout) for one in done]
    assert [len(times) for times in sent] == [one["media"]["sampled_frames"] for one in found] == [26, 8]
    for times, answered in zip(sent, found, strict=True):
        assert times == sorted(set(times))
        assert times[0] == 0
        assert 11 < times[-1] <= 13
        assert [one["timestamp_seconds"] for one in answered["evidence"]] == pytest.approx(times)
        assert [one["frame"] for one in answered["evidence"]] == [round(time * 25) for time in times]
    assert page.read_text().count('class="frame"') >= 3


def test_a_refused_key_is_an_error_that_does_not_tell_it(tmp_path: Path, key_file: Path) -> None:
    image = tmp_path / "image.png"
    image.write_bytes(draw_image())
    with endpoint(Script(key="another")) as scripted:
        options = ("--upstream", scripted.url, "--upstream-key-file", str(key_file))
        done = analyze(tmp_path, str(image), "--ask", "What?", *options)
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "upstream.unauthorized"
    assert KEY not in done.stdout + done.stderr
    assert files_that_hold(KEY, tmp_path / "data") == []


def test_killing_the_service_mid_answer_ends_in_the_right_answer_or_a_clear_error(
    tmp_path: Path, key_file: Path
) -> None:
    with (
        endpoint(Script(key=KEY, token_seconds=0.05)) as scripted,
        running(tmp_path, "--upstream", scripted.url, "--upstream-key-file", str(key_file)) as stack,
    ):
        commands = [found.command for found in descendants(stack.process.pid)]
        assert not any("services.inference" in command or "services.tokenizer" in command for command in commands)
        assert stack.model() == "scripted-model"

        def kill(count: int) -> None:
            if count == 3:
                stack.kill("services.upstream")

        request = {"model": "scripted-model", "messages": ask(text="Tell me more."), "max_tokens": 500}
        repeatable = request | {"temperature": 0.0, "seed": 1}
        expected = whole(stack.client(), **repeatable)
        answer = streamed(stack.client(), kill, **repeatable)
        assert (answer.content, answer.finish_reason) == (expected.content, "stop")
        with pytest.raises(openai.APIError, match="interrupted") as caught:
            streamed(stack.client(), kill, **request | {"temperature": 1.0})
        assert "Traceback" not in str(caught.value)
        assert whole(stack.client(), **repeatable).content == expected.content
        held = [path for path in files_that_hold(KEY, tmp_path) if path != key_file]
        assert held == []
