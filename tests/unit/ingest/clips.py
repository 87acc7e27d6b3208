"""Drawn inputs: one clip in every container, pictures, and the broken files of this world."""

import io
import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image

CONTAINERS = {
    "mp4": ("mp4", "libx264", {"preset": "ultrafast", "bf": "2"}),
    "mov": ("mov", "libx264", {"preset": "ultrafast", "bf": "2"}),
    "avi": ("avi", "mpeg4", {}),
    "webm": ("webm", "libvpx", {"deadline": "realtime", "cpu-used": "16", "auto-alt-ref": "1"}),
    "mkv": ("matroska", "libx264", {"preset": "ultrafast", "bf": "2"}),
    "mpeg": ("mpeg", "mpeg2video", {"bf": "2"}),
    "flv": ("flv", "flv", {}),
    "wmv": ("asf", "wmv2", {}),
    "3gp": ("3gp", "mpeg4", {}),
}


def draw(index: int, width: int, height: int) -> np.ndarray:
    """[height, width, 3] RGB: a scene that changes every sixteen frames, with a ball that moves."""
    scene = index // 16
    picture = np.full((height, width, 3), (40 + 60 * (scene % 3), 150 - 50 * (scene % 3), 90), np.uint8)
    center = (width // 8 + index * width // 80, height // 2)
    cv2.circle(picture, center, height // 6, (240, 240, 40), -1)
    cv2.putText(
        picture, str(index), (width // 10, height // 3), cv2.FONT_HERSHEY_SIMPLEX, height / 200, (255, 255, 255)
    )
    return picture


def write_clip(
    path: Path,
    *,
    container: str = "mp4",
    width: int = 320,
    height: int = 180,
    rate: Fraction = Fraction(24),
    frames: int = 60,
    rotation: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    form, codec, codec_options = CONTAINERS[container]
    with av.open(str(path), "w", format=form, options=options or {}) as output:
        stream: Any = output.add_stream(codec, rate=rate, options=codec_options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.thread_count = 2
        if rotation:
            stream.set_display_rotation(rotation)
        for index, frame in enumerate(_frames(width, height, frames)):
            frame.pts, frame.time_base = index, 1 / rate
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def _frames(width: int, height: int, count: int) -> Iterator[av.VideoFrame]:
    for index in range(count):
        yield av.VideoFrame.from_ndarray(draw(index, width, height), format="rgb24").reformat(format="yuv420p")


def write_oriented_jpeg(path: Path, orientation: int, picture: np.ndarray) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture).save(path, "JPEG", quality=100, subsampling=0, exif=exif)
    return path


def png_claiming(width: int, height: int) -> bytes:
    """A small file whose header says ``width`` x ``height``; its rows are real but few."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1 + 3 * width) * 2)
    blocks = _block(b"IHDR", header) + _block(b"IDAT", rows) + _block(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + blocks


def _block(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int = 64, height: int = 48) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw(3, width, height)).save(buffer, "PNG")
    return buffer.getvalue()
