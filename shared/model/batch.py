"""What one forward computes: consecutive positions of several sequences, and where their latents lie.

Input: ``Segment`` per sequence. Output: ``ForwardBatch``, the same as index tensors, built once for all layers.
Letters: T rows, G segments, S pages of the longest table.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.model.pages import PAGE


@dataclass(frozen=True)
class Segment:
    """Consecutive positions of one sequence."""

    first: int
    """Position of the first row; everything before it is in the pool already."""
    rows: int
    pages: Sequence[int] | NDArray[np.int32]
    """The sequence's pages in order of position; those beyond the last row are not looked at. An array is read faster
    than a list."""

    @property
    def end(self) -> int:
        return self.first + self.rows


class ForwardBatch:
    """Rows in the order of the segments.

    ``positions`` [T] int64; ``slots`` [T] int64: where in the pool (page * PAGE + place) a row's latent goes;
    ``tables`` [G, S] int32 page tables, 0 behind their end; ``owners`` [T] int64: the segment of each row; ``last`` [G]
    int64: the last row of each segment. Raises ValueError for a segment without rows or with too few pages.
    """

    def __init__(self, segments: Sequence[Segment], device: torch.device | str = "cpu") -> None:
        if not segments:
            raise ValueError("a forward batch without segments")
        tables = _tables(segments)
        counts = np.array([segment.rows for segment in segments])
        ends = np.cumsum(counts)
        numbers = np.empty((3, ends[-1]), dtype=np.int64)
        owners, positions, slots = numbers
        owners[:] = np.repeat(np.arange(len(segments)), counts)
        positions[:] = np.arange(ends[-1])
        positions += (np.array([segment.first for segment in segments]) - (ends - counts))[owners]
        pages, places = np.divmod(positions, PAGE)
        slots[:] = tables[owners, pages]
        slots *= PAGE
        slots += places
        self.segments, self.rows, self.pages_end = tuple(segments), len(owners), int(tables.max()) + 1
        self.owners, self.positions, self.slots = torch.from_numpy(numbers).to(device)
        self.tables = torch.from_numpy(tables).to(device)
        self.last = torch.from_numpy(ends - 1).to(device)

    def rows_of(self, index: int, spans: Iterable[tuple[int, Tensor]]) -> list[tuple[int, Tensor]]:
        """Media of segment ``index`` for ``Network.embed``: of each (position, embeddings [M, D]) the part that the
        segment reaches, as (row of the batch, embeddings)."""
        segment = self.segments[index]
        start = sum(before.rows for before in self.segments[:index])
        found: list[tuple[int, Tensor]] = []
        for position, rows in spans:
            low, high = max(position, segment.first), min(position + len(rows), segment.end)
            if low < high:
                found.append((start + low - segment.first, rows[low - position : high - position]))
        return found


def _tables(segments: Sequence[Segment]) -> NDArray[np.int32]:
    counts = [-(-segment.end // PAGE) for segment in segments]
    tables = np.zeros((len(segments), max(counts)), dtype=np.int32)
    for row, segment, count in zip(tables, segments, counts, strict=True):
        if segment.rows < 1 or segment.first < 0:
            raise ValueError(f"a segment of {segment.rows} rows at position {segment.first}")
        if len(segment.pages) < count:
            raise ValueError(f"{len(segment.pages)} pages for {segment.end} positions")
        row[:count] = segment.pages[:count]
    if tables.min() < 0:
        raise ValueError("a page below 0")
    return tables
