"""A video as images: which frames go, and what stands before each. Pure.

Input: the frames that ingest chose, with their sizes, and the scene cuts. Output: fewer of them in order, within a
count and a number of bytes; content parts with the time of each frame as text before it.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import msgspec

from schemas.media import MediaFrame, MediaManifest
from services.upstream.translate import ContentPart
from shared.errors import BadInput
from shared.media.chunks import timestamp_text
from shared.media.frames import spread


def choose(
    frames: Sequence[MediaFrame],
    cuts_seconds: Sequence[float],
    *,
    how: Literal["uniform", "scenes"],
    limit: int,
    max_bytes: int,
) -> tuple[MediaFrame, ...]:
    """As many frames as fit, at most ``limit``, in order. Raises BadInput when not one fits.

    uniform: evenly spread, first and last included. scenes: the first frame of every scene, then the frames that are
    farthest from a chosen one.
    """
    for count in range(min(limit, len(frames)), 0, -1):
        places = _scenes(frames, cuts_seconds, count) if how == "scenes" else spread(len(frames), count)
        chosen = tuple(frames[place] for place in places)
        if sum(frame.jpeg.size_bytes for frame in chosen) <= max_bytes:
            return chosen
    raise BadInput(
        "media.too_large", f"not one frame fits into the {max_bytes} bytes that a request may send as images"
    )


def parts(frames: Sequence[MediaFrame], pictures: Sequence[str], duration_seconds: float | None) -> list[ContentPart]:
    """``pictures``: one data URI per frame."""
    length = f" of {duration_seconds:.1f} s" if duration_seconds is not None else ""
    content: list[ContentPart] = [text(f"A video{length} as {len(frames)} frames, each behind its time:")]
    for frame, picture in zip(frames, pictures, strict=True):
        content += [text(f"[{timestamp_text(frame.timestamp_seconds)}]"), image(picture)]
    return content


def as_seen(manifest: MediaManifest, frames: tuple[MediaFrame, ...]) -> MediaManifest:
    """The manifest of what the model saw: these frames, no chunks, and no token count that anybody here knows."""
    return msgspec.structs.replace(manifest, frames=frames, chunks=(), media_tokens=0)


def text(words: str) -> ContentPart:
    return {"type": "text", "text": words}


def image(url: str) -> ContentPart:
    return {"type": "image_url", "image_url": {"url": url}}


def video(url: str) -> ContentPart:
    return {"type": "video_url", "video_url": {"url": url}}


def _scenes(frames: Sequence[MediaFrame], cuts_seconds: Sequence[float], count: int) -> Sequence[int]:
    times = [frame.timestamp_seconds for frame in frames]
    starts = sorted({0, *(place for cut in cuts_seconds if (place := bisect_left(times, cut)) < len(times))})
    if len(starts) >= count:
        return [starts[place] for place in spread(len(starts), count)]
    while len(starts) < count:
        # The last frame has no successor: as if one stood behind it, so that a long last scene is filled as well.
        gaps = [(after - before, before) for before, after in pairwise([*starts, len(frames)])]
        gap, before = max(gaps, key=lambda item: (item[0], -item[1]))
        starts = sorted([*starts, before + gap // 2])
    return starts
