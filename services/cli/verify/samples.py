"""A small picture and a short clip, drawn here, as data URIs. Pure but for the encoders."""

import base64
import io

import av
import numpy as np
from PIL import Image

SIDE = 64
FRAMES = 8
FRAMES_PER_SECOND = 4


def png() -> str:
    """A red square on white."""
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    picture.paste((220, 20, 20), (16, 16, 48, 48))
    data = io.BytesIO()
    picture.save(data, "PNG")
    return _uri("image/png", data.getvalue())


def mp4() -> str:
    """Two seconds: a red square moves from left to right."""
    data = io.BytesIO()
    with av.open(data, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for number in range(FRAMES):
            picture = np.full((SIDE, SIDE, 3), 255, np.uint8)
            picture[24:40, 6 * number : 6 * number + 16] = (220, 20, 20)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return _uri("video/mp4", data.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
