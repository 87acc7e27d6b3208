"""The demo clip, drawn here so that `make demo` needs no file: six seconds, three scenes, shapes that move, and text.

Input: where to write. Output: an mp4, 320x180 at 25 frames per second. `python -m services.cli.clip OUT.mp4`
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 320, 180
FRAMES_PER_SECOND = 25
SCENE_SECONDS = 2
WHITE = (255, 255, 255)

Picture = NDArray[np.uint8]  # [HEIGHT, WIDTH, 3], RGB
Scene = Callable[[float], Picture]
"""The picture at a moment of the scene, from 0 to 1."""


def sunrise(moment: float) -> Picture:
    """A sun climbs over a dark hill."""
    picture = gradient((20, 30, 90), (250, 150, 70))
    cv2.circle(picture, (160, int(170 - 110 * moment)), 28, (255, 230, 90), -1, cv2.LINE_AA)
    cv2.ellipse(picture, (160, 190), (230, 60), 0, 180, 360, (20, 60, 30), -1, cv2.LINE_AA)
    return titled(picture, "sunrise")


def ball(moment: float) -> Picture:
    """A red ball bounces from left to right past a blue box."""
    picture = gradient((225, 235, 240), (170, 190, 200))
    cv2.rectangle(picture, (210, 100), (270, 150), (40, 80, 200), -1)
    height = abs(np.sin(moment * 3 * np.pi))
    cv2.circle(picture, (int(20 + 280 * moment), int(135 - 80 * height)), 16, (210, 40, 40), -1, cv2.LINE_AA)
    return titled(picture, "a bouncing ball", (30, 30, 30))


def train(moment: float) -> Picture:
    """A train of three wagons leaves to the left under stars."""
    picture = gradient((5, 5, 25), (25, 20, 60))
    for star in range(24):
        cv2.circle(picture, (star * 73 % WIDTH, star * 37 % 90), 1, WHITE, -1)
    for wagon in range(3):
        left = int(240 - 330 * moment) + wagon * 70
        cv2.rectangle(picture, (left, 110), (left + 62, 145), (60, 160 - 40 * wagon, 90 + 60 * wagon), -1)
        for wheel in (14, 48):
            cv2.circle(picture, (left + wheel, 148), 7, (190, 190, 190), -1, cv2.LINE_AA)
    cv2.line(picture, (0, 157), (WIDTH, 157), (130, 110, 90), 3)
    return titled(picture, "night train")


SCENES: tuple[Scene, ...] = (sunrise, ball, train)


def gradient(top: tuple[int, int, int], bottom: tuple[int, int, int]) -> Picture:
    share = np.linspace(0, 1, HEIGHT)[:, None, None]
    column = np.array(top) * (1 - share) + np.array(bottom) * share
    return np.ascontiguousarray(np.broadcast_to(column, (HEIGHT, WIDTH, 3)).astype(np.uint8))


def titled(picture: Picture, text: str, colour: tuple[int, int, int] = WHITE) -> Picture:
    cv2.putText(picture, text, (10, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, 1, cv2.LINE_AA)
    return picture


def pictures() -> Iterator[Picture]:
    count = SCENE_SECONDS * FRAMES_PER_SECOND
    for scene in SCENES:
        for index in range(count):
            yield scene(index / (count - 1))


def write(path: Path) -> None:
    """Draw the clip. Raises OSError when the file cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FRAMES_PER_SECOND)  # an encoder that every FFmpeg has
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate = 800_000
        for picture in pictures():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def main() -> None:
    if len(sys.argv) != 2:
        print("usage: python -m services.cli.clip OUT.mp4", file=sys.stderr)
        sys.exit(2)
    write(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
