"""Times that an answer cites, tied to the frames that the model saw.

Input: an answer, and the times of the frames in order. Output: ``Evidence``, in order of the answer. Read are
``[00:01:23.500]``, ``00:01:23``, ``1:23``, ``at 83 s``, ``from 3 s to 7.5 seconds``, ``t=83s``. A length (``for 5 s``),
a time of day (``4:30 pm``) and a ratio (``16:9``) are no citations, and neither is a time outside the video. Pure, and
linear in the answer: repetitions in the expressions are bounded.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise

import msgspec

LEAST_TOLERANCE_SECONDS = 1.0
"""People and models round to whole seconds."""

_CLOCK = r"(?:(?P<hours>\d{1,2}):)?(?P<minutes>\d{1,3}):(?P<seconds>[0-5]\d(?:[.,]\d{1,3})?)"
_NOT_INSIDE = r"(?<![\d:.,])"
_NO_TIME_OF_DAY = r"(?![\d:])(?!\s{0,3}[ap]\.?m\b)"
_UNIT = r"(?:s|sec|secs|second|seconds)\b"
_GAP = r"\s{0,3}"
_NUMBER = r"\d{1,6}(?:\.\d{1,6})?"
_NEARLY = rf"{_GAP}(?:about|around|approximately|roughly|~)?{_GAP}"
_COUNT = (
    rf"(?:\b(?:at|from|between|until|till|t{_GAP}=)|@){_NEARLY}(?P<first>{_NUMBER})(?:{_GAP}{_UNIT})?"
    rf"(?:{_GAP}(?:to|and|until|-|–){_NEARLY}(?P<second>{_NUMBER}))?{_GAP}(?:(?<=s)|{_UNIT})"
)
_TIME = re.compile(rf"{_NOT_INSIDE}{_CLOCK}{_NO_TIME_OF_DAY}|{_COUNT}", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<![.!?])[.!?]+[\"')\]]{0,3}(?=\s)|[。！？]+|\n")
_LIST_MARK = re.compile(r"\s*(?:[-*•]\s+|\d{1,3}[.)]\s+)?")


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    timestamp_seconds: float
    """As cited."""
    frame: int
    """Position of the nearest frame; of two equally near the earlier one."""
    quote: str
    """The sentence that cites it, exactly as it stands in the answer."""


def evidence(answer: str, frame_seconds: Sequence[float]) -> list[Evidence]:
    """``frame_seconds``: ascending times of the frames. A time that one sentence cites twice counts once."""
    tolerance = max([LEAST_TOLERANCE_SECONDS, *(after - before for before, after in pairwise(frame_seconds))])
    found: dict[tuple[float, int], Evidence] = {}
    for start, end in sentences(answer):
        for seconds in cited_seconds(answer[start:end]):
            frame = nearest(frame_seconds, seconds)
            if frame is not None and abs(frame_seconds[frame] - seconds) <= tolerance:
                one = Evidence(timestamp_seconds=seconds, frame=frame, quote=answer[start:end])
                found.setdefault((seconds, start), one)
    return list(found.values())


def cited_seconds(text: str) -> list[float]:
    """Every time in ``text``, in order."""
    seconds: list[float] = []
    for match in _TIME.finditer(text):
        parts = match.groupdict()
        if parts["first"] is not None:
            seconds += [float(parts[name]) for name in ("first", "second") if parts[name] is not None]
        elif parts["hours"] is None or int(parts["minutes"]) < 60:
            hours, minutes = int(parts["hours"] or 0), int(parts["minutes"])
            seconds.append(hours * 3600 + minutes * 60 + float(parts["seconds"].replace(",", ".")))
    return seconds


def cited_places(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of every time in ``text`` as it stands there, with brackets around it."""
    for match in _TIME.finditer(text):
        bracketed = text[match.start() - 1 : match.start()] == "[" and text[match.end() : match.end() + 1] == "]"
        yield match.start() - bracketed, match.end() + bracketed


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of every sentence or line, without the white space and list marks before it."""
    start = 0
    for end in [*(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]:
        mark = _LIST_MARK.match(text, start, end)
        begin = mark.end() if mark else start
        stop = begin + len(text[begin:end].rstrip())
        if stop > begin:
            yield begin, stop
        start = end


def nearest(frame_seconds: Sequence[float], seconds: float) -> int | None:
    """Position of the frame next in time; None without frames."""
    if not frame_seconds:
        return None
    after = bisect_left(frame_seconds, seconds)
    candidates = [place for place in (after - 1, after) if 0 <= place < len(frame_seconds)]
    return min(candidates, key=lambda place: abs(frame_seconds[place] - seconds))
