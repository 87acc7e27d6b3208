"""A video as a strip of time: scenes, sampled frames, and the moments that the answer cites. Pure.

Input: a manifest and cited times. Output: SVG for a page whose style sheet knows the classes.
"""

from collections.abc import Sequence
from itertools import pairwise

from schemas.media import MediaManifest

WIDTH, MARGIN = 960.0, 8.0
TOP, HEIGHT = 22.0, 26.0
LABELS = 8
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)


def timeline(manifest: MediaManifest, cited_seconds: Sequence[float]) -> str:
    """An ``<svg>`` element; empty for an image or without a duration."""
    duration = manifest.duration_seconds or 0.0
    if manifest.kind != "video" or duration <= 0:
        return ""
    inner = "".join(
        [
            *_scenes(manifest.scene_cuts_seconds, duration),
            *(_line("sampled", _x(f.timestamp_seconds, duration), TOP + 5, TOP + HEIGHT - 5) for f in manifest.frames),
            *(_line("cut", _x(cut, duration), TOP - 4, TOP + HEIGHT + 4) for cut in manifest.scene_cuts_seconds),
            *(_pin(_x(seconds, duration)) for seconds in sorted(set(cited_seconds))),
            *_scale(duration),
        ]
    )
    words = (
        f"Timeline of {clock(duration)}: {len(manifest.frames)} sampled frames, "
        f"{len(manifest.scene_cuts_seconds)} scene cuts, {len(set(cited_seconds))} cited moments"
    )
    return f'<svg class="timeline" viewBox="0 0 {WIDTH:g} 74" role="img" aria-label="{words}">{inner}</svg>'


def clock(seconds: float) -> str:
    """``0:02.5``, ``1:02:03``: as short as it says what it must."""
    tenths = round(seconds * 10)
    whole, part = divmod(tenths, 10)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    text = f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
    return f"{text}.{part}" if part else text


def _x(seconds: float, duration: float) -> float:
    return MARGIN + (WIDTH - 2 * MARGIN) * min(1.0, max(0.0, seconds / duration))


def _scenes(cuts: Sequence[float], duration: float) -> list[str]:
    edges = [0.0, *(cut for cut in cuts if 0 < cut < duration), duration]
    return [
        f'<rect class="scene{number % 2}" x="{_x(start, duration):.1f}" y="{TOP:g}" '
        f'width="{_x(end, duration) - _x(start, duration):.1f}" height="{HEIGHT:g}"/>'
        for number, (start, end) in enumerate(pairwise(edges))
    ]


def _line(kind: str, x: float, top: float, bottom: float) -> str:
    return f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{top:g}" y2="{bottom:g}"/>'


def _pin(x: float) -> str:
    return f'{_line("cited", x, 10, TOP + HEIGHT)}<circle class="cited" cx="{x:.1f}" cy="9" r="5"/>'


def _scale(duration: float) -> list[str]:
    step = next((step for step in STEPS if duration / step <= LABELS), duration)
    times = [number * step for number in range(int(duration / step) + 1)]
    return [
        f'<text class="scale" x="{_x(seconds, duration):.1f}" y="68" text-anchor="{_anchor(seconds, duration)}">'
        f"{clock(seconds)}</text>"
        for seconds in times
    ]


def _anchor(seconds: float, duration: float) -> str:
    """Labels at the ends stay inside."""
    if seconds == 0:
        return "start"
    return "end" if seconds > 0.97 * duration else "middle"
