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

EMPTY_BOX = b"\0\0\0\x08free"
"""An MP4 box without content."""
REQUEST = {"messages": ask(image_part(draw_image(seed=4)), text="Tell me everything."), "seed": 11, "max_tokens": 600}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("survival")) as started:
        yield started


@pytest.fixture(autouse=True)
def settled(stack: Stack) -> None:
    """What the test before has killed or frozen serves again."""
    wait_until(stack.answers, 30, "an answer")


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
    clip = draw_video(tmp_path / "clip.mp4", seconds=4, width=640, height=360, seed=len(victim))
    request = {"model": stack.model(), "seed": 3, "max_tokens": 16}
    expected = streamed(stack.client(), messages=ask(video_part(clip)), **request)
    for delay_seconds in (0.1, 0.2, 0.3):
        with clip.open("ab") as file:
            file.write(EMPTY_BOX)  # other bytes, so that nothing is cached; the same pictures
        killer = threading.Timer(delay_seconds, stack.kill_all, (victim,))
        killer.start()
        assert same(streamed(stack.client(), messages=ask(video_part(clip)), **request), expected)
        killer.join()
    assert expected.content


def test_freezing_ingest_while_it_decodes_doubles_nothing(stack: Stack, tmp_path: Path) -> None:
    clip = draw_video(tmp_path / "clip.mp4", seconds=4, width=640, height=360, seed=5)
    request = {"model": stack.model(), "seed": 3, "max_tokens": 16}
    expected = streamed(stack.client(), messages=ask(video_part(clip)), **request)
    with clip.open("ab") as file:
        file.write(EMPTY_BOX)
    pid = stack.pid("services.ingest ")
    timers = [threading.Timer(0.1, os.kill, (pid, signal.SIGSTOP)), threading.Timer(4, os.kill, (pid, signal.SIGCONT))]
    for timer in timers:
        timer.start()
    assert same(streamed(stack.client(), messages=ask(video_part(clip)), **request), expected)
    for timer in timers:
        timer.join()
