"""``look``: what is shown, as what, and what is refused before a model hears of it."""

import io
from pathlib import Path

import pytest
from PIL import Image

from schemas import names
from schemas.blobs import BlobRef
from schemas.chat import MediaPart, TextPart
from schemas.codec import decode, encode
from schemas.failure import Failure
from schemas.media import MediaFailed, MediaFrame, MediaJob, MediaKind, MediaManifest, MediaPrepared, MediaProgress
from schemas.request import RequestContext
from services.tools import media_check
from services.tools.look import Look
from services.tools.media_check import AskIngest
from services.tools.media_format import media_format
from shared.blobs.store import BlobStore
from shared.bus.fake import FakeBroker
from shared.bus.interface import Job, WorkQueue
from shared.errors import BadInput, MoontideError, NotFound, Unavailable
from tests.web.calls import call, text_of

QUEUE = WorkQueue(stream=names.STREAM_MEDIA, subjects=(names.MEDIA_ALL,), durable=names.DURABLE_INGEST)


def manifest(kind: MediaKind = "image") -> MediaManifest:
    frame = MediaFrame(index=0, timestamp_seconds=0.0, jpeg=BlobRef(key="sha256/" + "0" * 64, size_bytes=1))
    seconds = None if kind == "image" else 2.5
    return MediaManifest(
        kind=kind, width=64, height=48, duration_seconds=seconds, frames=(frame,), chunks=(), media_tokens=4
    )


async def fine(context: RequestContext, part: MediaPart) -> MediaManifest:
    return manifest(part.kind)


def png(size: tuple[int, int] = (64, 48)) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, "navy").save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "chart.dat").write_bytes(png())
    (folder / "clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"film" * 9)
    (folder / "notes.png").write_text("no picture at all")
    return folder


async def test_a_picture_is_shown_with_what_it_is_and_the_question(tmp_path: Path, workspace: Path) -> None:
    one = call(tmp_path, workspace=workspace, path="chart.dat", question="Which month is highest?")
    result = await Look(fine).run(one)
    assert text_of(result) == "chart.dat: image/png, 64x48 pixels\nWhich month is highest?"
    part = result.content[1]
    assert isinstance(part, MediaPart)
    assert (part.kind, part.name) == ("image", "chart.dat")
    assert await one.blobs.get(part.source) == png()


async def test_a_video_is_shown(tmp_path: Path, workspace: Path) -> None:
    result = await Look(fine).run(call(tmp_path, workspace=workspace, path="/workspace/clip.mp4"))
    assert result.content[0] == TextPart(
        text="/workspace/clip.mp4: video/mp4, 64x48 pixels, 2.5 seconds, shown as 1 frames"
    )
    assert isinstance(result.content[1], MediaPart)
    assert result.content[1].kind == "video"


@pytest.mark.parametrize(
    ("path", "kind", "code"),
    [
        ("notes.png", BadInput, "look.not_media"),
        ("missing.png", NotFound, "workspace.not_found"),
        ("../chart.dat", BadInput, "workspace.outside"),
        ("/etc/passwd", BadInput, "workspace.outside"),
        ("out.png", BadInput, "workspace.outside"),
        (".", BadInput, "workspace.path"),
    ],
)
async def test_what_cannot_be_shown_is_refused(
    tmp_path: Path, workspace: Path, path: str, kind: type[MoontideError], code: str
) -> None:
    (tmp_path / "canary.png").write_bytes(png())
    (workspace / "out.png").symlink_to(tmp_path / "canary.png")
    with pytest.raises(kind) as caught:
        await Look(fine).run(call(tmp_path, workspace=workspace, path=path))
    assert caught.value.code == code


async def test_a_file_may_have_so_many_bytes(tmp_path: Path, workspace: Path) -> None:
    for tool, path in ((Look(fine, max_image_bytes=100), "chart.dat"), (Look(fine, max_video_bytes=10), "clip.mp4")):
        with pytest.raises(BadInput, match=f"{path} has ") as caught:
            await tool.run(call(tmp_path, workspace=workspace, path=path))
        assert caught.value.code == "look.too_large"


async def test_what_ingest_cannot_open_never_reaches_a_conversation(tmp_path: Path, workspace: Path) -> None:
    broker, blobs = FakeBroker(1), BlobStore.open(f"file://{tmp_path}/blobs")
    bus, ingest = broker.bus("tools"), broker.bus("ingest")
    await bus.declare(QUEUE)

    async def prepare(delivery: Job) -> None:
        job = decode(delivery.data, MediaJob)
        subject = names.media_outcome(job.job_id)
        await ingest.publish(subject, encode(MediaProgress(job_id=job.job_id)))
        if job.name == "chart.dat":
            reference = await blobs.put(encode(manifest()))
            await ingest.publish(subject, encode(MediaPrepared(job_id=job.job_id, manifest=reference)))
        else:
            failure = Failure(code="media.undecodable", message=f"{job.name}: is damaged", status=400, param=job.name)
            await ingest.publish(subject, encode(MediaFailed(job_id=job.job_id, failure=failure)))

    tool = Look(AskIngest(bus, blobs))
    async with ingest.consume(QUEUE, prepare, in_flight=1):
        shown = await tool.run(call(tmp_path, workspace=workspace, path="chart.dat"))
        assert text_of(shown) == "chart.dat: image/png, 64x48 pixels"
        with pytest.raises(BadInput, match=r"clip\.mp4: is damaged") as caught:
            await tool.run(call(tmp_path, workspace=workspace, path="clip.mp4"))
    assert caught.value.code == "media.undecodable"


async def test_what_cannot_be_shown_is_told_in_its_place() -> None:
    async def only_charts(context: RequestContext, part: MediaPart) -> MediaManifest:
        if part.name != "chart.png":
            raise BadInput("media.undecodable", f"{part.name}: is damaged")
        return manifest()

    source = BlobRef(key="sha256/" + "0" * 64, size_bytes=1)
    chart, broken = (MediaPart(kind="image", source=source, name=name) for name in ("chart.png", "broken.png"))
    context = RequestContext(request_id="r", deadline_unix_seconds=4e9)
    shown = await media_check.showable(only_charts, context, (TextPart(text="two"), broken, chart))
    assert shown == (TextPart(text="two"), TextPart(text="[image not shown: broken.png: is damaged]"), chart)


async def test_nobody_to_ask_is_a_refusal_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_check, "FIRST_SILENCE_SECONDS", 0.05)
    bus = FakeBroker(1).bus("tools")
    await bus.declare(QUEUE)
    check = AskIngest(bus, BlobStore.open(f"file://{tmp_path}/blobs"), seconds=0.4)
    part = MediaPart(kind="image", source=BlobRef(key="sha256/" + "0" * 64, size_bytes=1), name="a.png")
    with pytest.raises(Unavailable, match=r"a\.png: was not looked at in time") as caught:
        await check(RequestContext(request_id="r", deadline_unix_seconds=4e9), part)
    assert not caught.value.retryable


@pytest.mark.parametrize("name", ["PNG", "JPEG", "GIF", "WEBP"])
def test_pictures_are_known_by_their_bytes(name: str) -> None:
    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, name)
    assert media_format(data.getvalue()) == ("image", f"image/{name.lower()}")


@pytest.mark.parametrize(
    ("head", "known"),
    [
        (b"\0\0\0\x18ftypisom", "video/mp4"),
        (b"\0\0\0\x14ftypqt  ", "video/quicktime"),
        (b"\0\0\0\x14ftyp3gp4", "video/3gpp"),
        (b"RIFF\0\0\0\0AVI LIST", "video/x-msvideo"),
        (b"\x1a\x45\xdf\xa3\x01\0webm", "video/webm"),
        (b"\x1a\x45\xdf\xa3\x01\0matroska", "video/x-matroska"),
        (b"G" + b"\0" * 187 + b"G", "video/mpeg"),
        (b"\0\0\0\x1cftypavif", None),
        (b"\0\0\0\x18ftypheic", None),
        (b"Good morning", None),
        (b"JUNK\0\0\0\0WEBP", None),
        (b"%PDF-1.7", None),
        (b"<svg/>", None),
        (b"", None),
    ],
)
def test_other_files_are_known_by_their_bytes(head: bytes, known: str | None) -> None:
    assert media_format(head) == (known and ("video", known))
