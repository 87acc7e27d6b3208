"""Media drawn here, and how a request carries them."""

import base64
import io
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image


def draw_image(width: int = 96, height: int = 64, seed: int = 0) -> bytes:
    """A PNG of coloured noise blocks."""
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(blocks.repeat(8, 0).repeat(8, 1)).save(buffer, "PNG")
    return buffer.getvalue()


def draw_video(path: Path, *, seconds: float = 3, width: int = 320, height: int = 180, seed: int = 0) -> Path:
    """An MPEG-4 clip at 25 frames per second: a square that moves over a gradient whose colour depends on the seed."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(int(seconds * 25)):
            frame = np.zeros((height, width, 3), np.uint8)
            frame[..., 0] = np.linspace(0, 255, width, dtype=np.uint8)
            frame[..., 1] = (seed * 37 + index) % 256
            x = index * 5 % (width - 40)
            frame[40:80, x : x + 40] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def data_uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def image_part(data: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_uri(data, "image/png")}}


def video_part(path: Path) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": data_uri(path.read_bytes(), "video/mp4")}}


def ask(*parts: dict[str, Any], text: str = "What is this?") -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]
