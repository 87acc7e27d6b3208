"""What the service and a decoder worker say to each other over the worker's two pipes.

Input and output: tagged structs, each as four bytes of length and msgpack. Results of decoding are files in the
request's output folder, named by the functions here; the answer lists them. Must not know who decodes or stores.
"""

from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from schemas.codec import decode, encode
from schemas.media import MediaKind, MediaOptions

LENGTH_BYTES = 4
MAX_MESSAGE_BYTES = 64 * 1024 * 1024


class DecodeLimits(msgspec.Struct, frozen=True, kw_only=True):
    max_pixels: int
    """Of a source picture or video frame, checked before it is decoded."""
    max_duration_seconds: float
    max_media_tokens: int
    cpu_seconds: int
    """Processor time of one job, all threads together; the kernel ends a worker that needs more."""
    threads: int


class DecodeRequest(msgspec.Struct, frozen=True, kw_only=True, tag="decode.requested"):
    source: str
    """Path of the input."""
    output: str
    """Existing folder for the results."""
    kind: MediaKind
    options: MediaOptions
    limits: DecodeLimits


class WorkerReady(msgspec.Struct, frozen=True, kw_only=True, tag="worker.ready"):
    """First message of a worker: its decoders are loaded and its limits are set."""


class DecodeProgress(msgspec.Struct, frozen=True, kw_only=True, tag="decode.progress"):
    stage: str


class DecodedFrame(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    timestamp_seconds: float


class DecodedChunk(msgspec.Struct, frozen=True, kw_only=True):
    timestamp_seconds: float
    timestamp_text: str
    grid: tuple[int, int, int]
    tokens: int
    frames: tuple[int, ...]


class Decoded(msgspec.Struct, frozen=True, kw_only=True, tag="decode.done"):
    """The manifest without its blobs: those are the files named below."""

    width: int
    height: int
    duration_seconds: float | None = None
    source_frames_per_second: float | None = None
    source_frames: int = 1
    frames: tuple[DecodedFrame, ...]
    chunks: tuple[DecodedChunk, ...]
    scene_cuts_seconds: tuple[float, ...] = ()
    contact_sheet: bool = False

    @property
    def media_tokens(self) -> int:
        return sum(chunk.tokens for chunk in self.chunks)


class DecodeRefused(msgspec.Struct, frozen=True, kw_only=True, tag="decode.refused"):
    """The input cannot be prepared; trying again cannot help. ``text`` is ours and does not name the input."""

    code: str
    text: str


class DecodeFault(msgspec.Struct, frozen=True, kw_only=True, tag="decode.fault"):
    """The worker failed at the input; it ends after saying so. ``detail`` is for the log."""

    reason: Literal["memory", "crashed"]
    detail: str


WorkerMessage = WorkerReady | DecodeProgress | Decoded | DecodeRefused | DecodeFault
DecodeAnswer = Decoded | DecodeRefused | DecodeFault


def frame_file(folder: Path, position: int) -> Path:
    return folder / f"frame-{position:06d}.jpg"


def chunk_file(folder: Path, position: int) -> Path:
    return folder / f"chunk-{position:06d}.patches"


def sheet_file(folder: Path) -> Path:
    return folder / "sheet.jpg"


def pack(message: msgspec.Struct) -> bytes:
    """One framed message."""
    data = encode(message)
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def body_bytes(header: bytes) -> int:
    """Length of the message behind a header. Raises ValueError when it is more than anybody sends."""
    length = int.from_bytes(header, "big")
    if length > MAX_MESSAGE_BYTES:
        raise ValueError(f"message of {length} bytes")
    return length


def read_request(stream: BinaryIO) -> DecodeRequest | None:
    """The next request, or None when the service has closed the pipe."""
    header = stream.read(LENGTH_BYTES)
    if len(header) < LENGTH_BYTES:
        return None
    return decode(stream.read(body_bytes(header)), DecodeRequest)
