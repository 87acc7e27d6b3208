"""Media: the job for ingest and the manifest it leaves. Frame and chunk are words of video only, except that an
image counts as one chunk of one frame."""

from typing import Literal

import msgspec

from schemas.blobs import BlobRef
from schemas.failure import Failure
from schemas.request import RequestContext

MediaKind = Literal["image", "video"]


class MediaOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The released ``media_proc_cfg`` (reference page section 1): part of a derived result's key."""

    sample_frames_per_second: float = 2.0
    max_frames: int | None = None
    patch_limit_image: int = 16384
    patch_limit_frame: int = 4096
    patch_limit_one_side: int = 512
    chunk_frames: int = 4


class MediaJob(msgspec.Struct, frozen=True, kw_only=True, tag="media.requested"):
    """Tokenizer to ingest, on the work queue."""

    job_id: str
    context: RequestContext
    source: BlobRef
    kind: MediaKind
    name: str
    """What the sender calls this input; failures name it."""
    options: MediaOptions = MediaOptions()


class MediaFrame(msgspec.Struct, frozen=True, kw_only=True):
    """A frame the model sees. ``index`` counts decoded frames of the source from 0."""

    index: int
    timestamp_seconds: float
    jpeg: BlobRef
    """Small picture for people: evidence, reports, the console."""


class MediaChunk(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes one media span of the prompt: up to four frames of video, or one image."""

    timestamp_seconds: float
    timestamp_text: str
    """``HH:MM:SS.mmm`` for video, empty for an image."""
    grid: tuple[int, int, int]
    """(t, h, w) in patches of 14x14 pixels."""
    tokens: int
    frames: tuple[int, ...]
    """Positions in ``MediaManifest.frames``."""
    patches: BlobRef
    """uint8, shape [t*h*w, 3, 14, 14], C order, raster order of patches; normalised by the encoder."""


class MediaManifest(msgspec.Struct, frozen=True, kw_only=True, tag="media.manifest"):
    kind: MediaKind
    width: int
    height: int
    """Of the source as displayed (EXIF orientation applied)."""
    duration_seconds: float | None = None
    source_frames_per_second: float | None = None
    source_frames: int = 1
    frames: tuple[MediaFrame, ...]
    chunks: tuple[MediaChunk, ...]
    media_tokens: int
    scene_cuts_seconds: tuple[float, ...] = ()
    contact_sheet: BlobRef | None = None


class MediaProgress(msgspec.Struct, frozen=True, kw_only=True, tag="media.progress"):
    """Ingest, every half second while it works on the job."""

    job_id: str
    stage: str = ""


class MediaPrepared(msgspec.Struct, frozen=True, kw_only=True, tag="media.prepared"):
    """The manifest is in the blob store (as msgpack) before this is sent."""

    job_id: str
    manifest: BlobRef


class MediaFailed(msgspec.Struct, frozen=True, kw_only=True, tag="media.failed"):
    job_id: str
    failure: Failure


MediaOutcome = MediaProgress | MediaPrepared | MediaFailed
