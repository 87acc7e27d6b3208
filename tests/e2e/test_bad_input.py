"""Poison stays with its sender: each bad file is a 400 that names it, quickly, and a good request is undisturbed."""

import io
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
from PIL import Image

from tests.e2e.answers import same, whole
from tests.e2e.media import ask, draw_image, draw_video, image_part
from tests.e2e.stack import Stack


def _huge_png() -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(buffer, "PNG")
    return buffer.getvalue()


def _truncated_video(directory: Path) -> bytes:
    whole_clip = draw_video(directory / "whole.mp4").read_bytes()
    return whole_clip[: len(whole_clip) // 2]


@pytest.fixture
def poison(tmp_path: Path, data_dir: Path) -> dict[str, tuple[str, bytes]]:
    return {
        "broken.png": ("image_url", (data_dir / "media" / "broken.png").read_bytes()),
        "empty.mp4": ("video_url", b""),
        "text.mp4": ("video_url", b"this is not a video at all\n" * 100),
        "huge.png": ("image_url", _huge_png()),
        "truncated.mp4": ("video_url", _truncated_video(tmp_path)),
    }


def test_each_bad_input_is_refused_by_name_within_five_seconds(
    stack: Stack, poison: dict[str, tuple[str, bytes]]
) -> None:
    client, model = stack.client(), stack.model()
    good = {"model": model, "messages": ask(image_part(draw_image(seed=9))), "seed": 2, "max_tokens": 64}
    expected = whole(client, **good)
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(lambda: [whole(stack.client(), **good) for _ in range(4)])
        for name, (part, data) in poison.items():
            _assert_refused(client, model, name, part, data)
        assert all(same(answer, expected) for answer in beside.result(60))


def _assert_refused(client: openai.OpenAI, model: str, name: str, part: str, data: bytes) -> None:
    started = time.monotonic()

    def upload_and_ask() -> None:
        file_id = client.files.create(file=(name, data), purpose="user_data").id
        content = {"type": part, part: {"url": f"ms://{file_id}"}}
        client.chat.completions.create(model=model, messages=ask(content), max_tokens=8)

    with pytest.raises(openai.BadRequestError) as caught:
        upload_and_ask()
    assert time.monotonic() - started < 5, name
    assert caught.value.status_code == 400
    assert name in str(caught.value), caught.value


def test_a_refused_stream_is_a_status_and_not_a_broken_stream(stack: Stack) -> None:
    broken = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    client, model = stack.client(), stack.model()
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=model, messages=ask(broken), stream=True)
