"""Whatever dies or freezes in the middle of a request, the answer is the undisturbed one and nothing is doubled."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.answers import Answer, same, streamed
from tests.e2e.media import ask, draw_image, draw_video, image_part, video_part
from tests.e2e.stack import Stack, running, wait_until

REQUEST = {"messages": ask(image_part(draw_image(seed=4)), text="Tell me everything."), "seed": 11, "max_tokens": 600}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("survival")) as started:
        yield started


@pytest.fixture(scope="module")
def undisturbed(stack: Stack) -> Answer:
    return streamed(stack.client(), model=stack.model(), **REQUEST)


def _disturb_at(piece: int, disturb: Callable[[], None]) -> Callable[[int], None]:
    return lambda count: disturb() if count == piece else None


@pytest.mark.parametrize("victim", ["services.inference", "services.tokenizer", "services.recorder", "nats-server"])
def test_a_kill_in_the_middle_changes_nothing(stack: Stack, undisturbed: Answer, victim: str) -> None:
    model = stack.model()
    answer = streamed(stack.client(), _disturb_at(3, lambda: stack.kill(victim)), model=model, **REQUEST)
    assert same(answer, undisturbed)
    wait_until(stack.is_ready, 20, "readiness after the restart")
    trace = stack.closed_trace(answer.trace_id)
    assert len([span for span in trace["spans"] if not span["parent_span_id"]]) == 1


@pytest.mark.parametrize("victim", ["services.inference", "services.tokenizer", "nats-server"])
def test_freezing_and_reviving_doubles_nothing(stack: Stack, undisturbed: Answer, victim: str) -> None:
    model, pid = stack.model(), stack.pid(victim)

    def freeze() -> None:
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(4, os.kill, (pid, signal.SIGCONT)).start()

    answer = streamed(stack.client(), _disturb_at(3, freeze), model=model, **REQUEST)
    assert same(answer, undisturbed)


@pytest.mark.parametrize("victim", ["services.ingest ", "services.ingest.worker"])
def test_a_kill_while_media_is_decoded_changes_nothing(stack: Stack, tmp_path: Path, victim: str) -> None:
    clips = [draw_video(tmp_path / f"{run}.mp4", seconds=8, width=1280, height=720, seed=len(victim)) for run in "ab"]
    request = {"model": stack.model(), "seed": 3, "max_tokens": 16}
    pid = stack.pid(victim)
    killer = threading.Timer(0.4, os.kill, (pid, signal.SIGKILL))
    killer.start()
    first = streamed(stack.client(), messages=ask(video_part(clips[0])), **request)
    killer.join()
    second = streamed(stack.client(), messages=ask(video_part(clips[1])), **request)
    assert same(first, second)
    assert first.content
