"""The main path through a real stack: text, images and video, streamed and not, with usage and one trace."""

import json
import subprocess
from pathlib import Path

import pytest
import requests

from tests.e2e.answers import same, streamed, whole
from tests.e2e.media import ask, draw_image, draw_video, image_part, video_part
from tests.e2e.stack import ROOT, Stack, environment, moontide, wait_until


@pytest.mark.parametrize("kind", ["text", "image", "video"])
def test_the_openai_client_works_unchanged_and_streamed_equals_unstreamed(
    stack: Stack, tmp_path: Path, kind: str
) -> None:
    parts = {
        "text": [],
        "image": [image_part(draw_image())],
        "video": [video_part(draw_video(tmp_path / "clip.mp4"))] if kind == "video" else [],
    }[kind]
    request = {"model": stack.model(), "messages": ask(*parts), "seed": 7, "max_tokens": 48}
    answers = [whole(stack.client(), **request), streamed(stack.client(), **request)]
    assert same(*answers), answers
    assert answers[0].content
    assert answers[0].reasoning
    assert 0 < answers[0].completion_tokens <= 48


def test_without_thinking_everything_is_content(stack: Stack) -> None:
    request = {"model": stack.model(), "messages": ask(text="hi"), "seed": 1, "max_tokens": 24}
    answer = whole(stack.client(), **request, extra_body={"thinking": {"type": "disabled"}})
    assert answer.reasoning == ""
    assert answer.content


def test_an_uploaded_file_is_the_same_input_as_a_data_uri(stack: Stack, tmp_path: Path) -> None:
    clip = draw_video(tmp_path / "clip.mp4", seed=3)
    client = stack.client()
    with clip.open("rb") as file:
        file_id = client.files.create(file=file, purpose="user_data").id
    uploaded = {"type": "video_url", "video_url": {"url": f"ms://{file_id}"}}
    common = {"model": stack.model(), "seed": 5, "max_tokens": 24}
    assert same(
        whole(client, messages=ask(uploaded), **common), whole(client, messages=ask(video_part(clip)), **common)
    )


def test_analyze_prints_one_object_per_input_with_one_closed_trace(stack: Stack, nasa: Path) -> None:
    done = subprocess.run(
        [*moontide("analyze", str(nasa), "--ask", "What happens?", "--json", "--max-tokens", "32"), "--url", stack.url],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    answer = json.loads(line)
    assert (answer["media"]["sampled_frames"], answer["media"]["chunks"]) == (26, 7)
    assert answer["media"]["kind"] == "video"
    assert (answer["media"]["width"], answer["media"]["height"]) == (320, 180)
    assert answer["media"]["duration_seconds"] == pytest.approx(13.0, abs=0.1)
    assert answer["usage"]["media_tokens"] == 588
    assert answer["usage"]["prompt_tokens"] > 588
    assert set(answer["timings"]) >= {"ingest_seconds", "prefill_seconds", "decode_seconds", "total_seconds"}
    assert answer["answer"]
    spans = stack.closed_trace(answer["trace_id"])["spans"]
    ids = {span["span_id"] for span in spans}
    roots = [span for span in spans if not span["parent_span_id"]]
    assert len(roots) == 1
    assert [span for span in spans if span["parent_span_id"] and span["parent_span_id"] not in ids] == []
    assert {"gateway", "tokenizer", "ingest", "inference"} <= {span["service"] for span in spans}


def test_models_and_health(stack: Stack) -> None:
    def served() -> set[str]:
        return {model["id"] for model in requests.get(f"{stack.url}/v1/models", timeout=10).json()["data"]}

    names = {"moontide-tiny", "moontide-tiny-instant", "moontide-tiny-thinking"}
    wait_until(lambda: served() == names | {"moontide-tiny-agent"}, 30, "the agent, once its coordinator is there")
    assert requests.get(f"{stack.url}/livez", timeout=10).status_code == 200
    unknown = requests.post(f"{stack.url}/v1/chat/completions", json={"model": "gpt-9", "messages": ask()}, timeout=10)
    assert unknown.status_code == 404
    assert unknown.json()["error"]["code"] == "model_not_found"


def test_processes_that_do_not_need_torch_do_not_load_it(stack: Stack) -> None:
    own = [
        stack.process.pid,
        *(stack.pid(f"services.{name}") for name in ("gateway", "tokenizer", "ingest", "recorder")),
    ]
    for pid in own:
        assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text()
    assert "libtorch" in Path(f"/proc/{stack.pid('services.inference')}/maps").read_text()
