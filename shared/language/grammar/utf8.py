"""Code point ranges as sequences of byte ranges (RFC 3629). Pure."""

from collections.abc import Iterable, Iterator

ByteRanges = tuple[tuple[int, int], ...]

_BORDERS = (0x7F, 0x7FF, 0xFFFF, 0x10FFFF)


def byte_ranges(ranges: Iterable[tuple[int, int]]) -> Iterator[ByteRanges]:
    """Each result: a range for each byte; together exactly the encodings of the code points, surrogates left out."""
    for first, last in ranges:
        start = first
        for border in (*_BORDERS[:2], 0xD7FF, *_BORDERS[2:]):
            if 0xD800 <= start <= 0xDFFF:
                start = 0xE000
            if start <= min(last, border):
                yield from _same_length(start, min(last, border))
                start = min(last, border) + 1


def _same_length(first: int, last: int) -> Iterator[ByteRanges]:
    """Split where a range of trailing bytes is not complete."""
    for bits in (6, 12, 18):
        block = (1 << bits) - 1
        if first & ~block == last & ~block or last <= 0x7F:
            break
        if first & block:
            yield from _same_length(first, first | block)
            yield from _same_length((first | block) + 1, last)
            return
        if last & block != block:
            yield from _same_length(first, (last & ~block) - 1)
            yield from _same_length(last & ~block, last)
            return
    yield tuple(zip(chr(first).encode(), chr(last).encode(), strict=True))
