"""The ingest service with a real store, real workers and real spans, on a tiny bus: a job in, one outcome out."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from schemas import names
from schemas.blobs import BlobRef
from schemas.codec import decode
from schemas.media import MediaFailed, MediaJob, MediaKind, MediaManifest, MediaPrepared
from schemas.request import RequestContext
from schemas.telemetry import (
    ATTR_MEDIA_CACHED,
    ATTR_MEDIA_FRAMES,
    ATTR_MEDIA_TOKENS,
    SPAN_DECODE_MEDIA,
    SPAN_PREPARE_MEDIA,
)
from services.ingest.app import app
from services.ingest.config import IngestConfig
from services.ingest.queue import MEDIA_QUEUE
from shared.blobs.store import BlobStore
from shared.bus.interface import Job
from shared.clock import SystemClock
from shared.errors import Unavailable
from shared.telemetry.recording import RecordingTelemetry
from tests.unit.ingest.clips import png, png_claiming, write_clip
from tests.unit.ingest.tiny_bus import TinyBus


class Stack:
    """A running service and its sender."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bus = TinyBus()
        self.blobs: Any = BlobStore.open((folder / "blobs").as_uri())
        self.telemetry = RecordingTelemetry("ingest")
        self._jobs = 0

    @asynccontextmanager
    async def running(self, **config: Any) -> AsyncIterator["Stack"]:
        scratch = self.folder / "scratch"
        process = SimpleNamespace(bus=self.bus, blobs=self.blobs, telemetry=self.telemetry, clock=SystemClock())
        async with app(IngestConfig(scratch_directory=scratch, **config), process):  # type: ignore[arg-type]
            yield self
        assert list(scratch.iterdir()) == []

    async def send(self, data: bytes, name: str, kind: MediaKind = "video", *, seconds: float = 60.0) -> str:
        return self.send_ref(await self.blobs.put(data), name, kind, seconds=seconds)

    def send_ref(self, source: BlobRef, name: str, kind: MediaKind = "video", *, seconds: float = 60.0) -> str:
        self._jobs += 1
        job_id = f"job-{self._jobs}"
        with self.telemetry.span("wait media", parent="") as sender:
            context = RequestContext(
                request_id="r-1", deadline_unix_seconds=time.time() + seconds, traceparent=sender.traceparent
            )
            self.bus.put(MediaJob(job_id=job_id, context=context, source=source, kind=kind, name=name))
        return job_id

    async def manifest(self, job_id: str) -> MediaManifest:
        outcome = await self.bus.answer(job_id)
        assert isinstance(outcome, MediaPrepared), outcome
        return decode(await self.blobs.get(outcome.manifest), MediaManifest)

    async def failure(self, job_id: str) -> tuple[int, str, str, str | None]:
        outcome = await self.bus.answer(job_id)
        assert isinstance(outcome, MediaFailed), outcome
        failure = outcome.failure
        return failure.status, failure.code, failure.message, failure.param


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path)


def clip(folder: Path, **more: Any) -> bytes:
    return write_clip(folder / "drawn.mp4", **more).read_bytes()


async def test_a_video_becomes_a_manifest_whose_blobs_are_there(stack: Stack, tmp_path: Path) -> None:
    async with stack.running(workers=1):
        assert stack.bus.declared == [MEDIA_QUEUE]
        job_id = await stack.send(clip(tmp_path), "clip.mp4")
        manifest = await stack.manifest(job_id)
    assert (manifest.kind, manifest.width, manifest.height, manifest.source_frames) == ("video", 320, 180, 60)
    assert manifest.media_tokens == sum(chunk.tokens for chunk in manifest.chunks) == 168
    for chunk in manifest.chunks:
        frames, rows, columns = chunk.grid
        assert len(await stack.blobs.get(chunk.patches)) == frames * rows * columns * 3 * 14 * 14
    assert manifest.contact_sheet is not None
    for picture in (*(frame.jpeg for frame in manifest.frames), manifest.contact_sheet):
        assert (await stack.blobs.get(picture)).startswith(b"\xff\xd8")
    assert stack.bus.progress(job_id)[0].stage == "taken"


async def test_the_reference_clip(stack: Stack, media_directory: Path) -> None:
    async with stack.running(workers=1):
        manifest = await stack.manifest(
            await stack.send((media_directory / "nasa_13013.mp4").read_bytes(), "nasa_13013.mp4")
        )
    assert (len(manifest.frames), len(manifest.chunks), manifest.media_tokens) == (26, 7, 588)


async def test_one_trace_with_the_sender_on_top(stack: Stack, tmp_path: Path) -> None:
    async with stack.running(workers=1):
        await stack.manifest(await stack.send(clip(tmp_path), "clip.mp4"))
    (sender,) = stack.telemetry.ended("wait media")
    (prepare,) = stack.telemetry.ended(SPAN_PREPARE_MEDIA)
    (decoding,) = stack.telemetry.ended(SPAN_DECODE_MEDIA)
    assert (prepare.trace_id, prepare.parent_span_id) == (sender.trace_id, sender.span_id)
    assert (decoding.trace_id, decoding.parent_span_id) == (sender.trace_id, prepare.span_id)
    assert prepare.attributes[ATTR_MEDIA_TOKENS] == 168
    assert prepare.attributes[ATTR_MEDIA_FRAMES] == 5
    assert prepare.attributes[ATTR_MEDIA_CACHED] is False


async def test_the_same_input_is_decoded_once(stack: Stack, tmp_path: Path) -> None:
    data = clip(tmp_path)
    async with stack.running(workers=2):
        jobs = [await stack.send(data, name) for name in ("one.mp4", "two.mp4", "three.mp4")]
        answers = [await stack.bus.answer(job) for job in jobs]
    assert len({answer.manifest for answer in answers if isinstance(answer, MediaPrepared)}) == 1
    assert len(stack.telemetry.ended(SPAN_DECODE_MEDIA)) == 1


def broken_inputs(folder: Path) -> dict[str, tuple[bytes, MediaKind, str]]:
    whole = clip(folder, options={"movflags": "faststart"})
    return {
        "empty.mp4": (b"", "video", "media.undecodable"),
        "words.mp4": (b"these are words\n" * 100, "video", "media.undecodable"),
        "cut.mp4": (whole[: len(whole) * 2 // 3], "video", "media.undecodable"),
        "headless.mp4": (clip(folder)[:20_000], "video", "media.undecodable"),
        "empty.png": (b"", "image", "media.undecodable"),
        "cut.png": (png()[:-60], "image", "media.undecodable"),
        "huge.png": (png_claiming(10_000, 10_000), "image", "media.too_large"),
    }


async def test_broken_inputs_are_named_at_once_beside_good_ones(stack: Stack, tmp_path: Path) -> None:
    good = clip(tmp_path, frames=48)
    async with stack.running(workers=2):
        for name, (data, kind, code) in broken_inputs(tmp_path).items():
            start = time.monotonic()
            bad = await stack.send(data, name, kind)
            beside = await stack.send(good + name.encode(), "good.mp4")
            status, found, message, param = await stack.failure(bad)
            assert (status, found, param) == (400, code, name)
            assert message.startswith(f"{name}: ")
            assert time.monotonic() - start < 5
            assert (await stack.manifest(beside)).source_frames == 48
    assert stack.bus.parked == []


async def test_the_broken_reference_image(stack: Stack, media_directory: Path) -> None:
    async with stack.running(workers=1):
        bad = await stack.send((media_directory / "broken.png").read_bytes(), "broken.png", "image")
        assert (await stack.failure(bad))[:2] == (400, "media.undecodable")


async def test_a_source_over_the_limit_is_not_even_fetched(stack: Stack) -> None:
    async with stack.running(workers=1, max_source_bytes=10):
        job = stack.send_ref(BlobRef(key="sha256/" + "0" * 64, size_bytes=11), "big.mp4")
        assert (await stack.failure(job))[:2] == (400, "media.too_large")


async def test_a_missing_source_is_not_found_and_named(stack: Stack) -> None:
    async with stack.running(workers=1):
        job = stack.send_ref(BlobRef(key="sha256/" + "0" * 64, size_bytes=11), "lost.mp4")
        status, _, message, param = await stack.failure(job)
    assert (status, param) == (404, "lost.mp4")
    assert message.startswith("lost.mp4: ")


async def test_a_job_whose_deadline_has_passed_is_answered(stack: Stack, tmp_path: Path) -> None:
    async with stack.running(workers=1):
        job = await stack.send(clip(tmp_path), "late.mp4", seconds=-1.0)
        assert (await stack.failure(job))[:2] == (504, "media.deadline")


async def test_trouble_of_ours_is_tried_again_then_parked_and_answered(stack: Stack, tmp_path: Path) -> None:
    async def broken(ref: BlobRef, path: Path) -> None:
        raise Unavailable("blob.unavailable", "the store is away")

    async with stack.running(workers=1):
        job = await stack.send(clip(tmp_path), "clip.mp4")
        stack.blobs.save = broken
        status, code, _, param = await stack.failure(job)
    assert (status, code, param) == (503, "ingest.parked", "clip.mp4")
    assert [delivery.attempt_number for delivery, _ in stack.bus.parked] == [MEDIA_QUEUE.max_attempts]


async def test_bytes_that_are_no_job_are_parked_and_answered(stack: Stack) -> None:
    async with stack.running(workers=1):
        stack.bus._jobs.put_nowait(Job(subject=names.media_requested("odd"), data=b"\xc1", attempt_number=1))
        assert (await stack.failure("odd"))[:2] == (400, "media.malformed")
    assert len(stack.bus.parked) == 1


async def test_progress_is_told_while_a_job_lasts(stack: Stack, tmp_path: Path) -> None:
    release = asyncio.Event()
    save = stack.blobs.save

    async def slow(ref: BlobRef, path: Path) -> None:
        await release.wait()
        await save(ref, path)

    async with stack.running(workers=1):
        stack.blobs.save = slow
        job = await stack.send(clip(tmp_path), "clip.mp4")
        async with asyncio.timeout(10):
            await stack.bus.published(job, 3)
        assert stack.bus.progress(job)[-1].stage == "fetching source"
        release.set()
        await stack.manifest(job)
