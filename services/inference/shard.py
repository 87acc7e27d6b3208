"""The shard role: decoder layers, the pages of latents, embeddings at hand; the last layer samples.

Input: forwards. Output: tokens. ``Layers`` computes, in the compute thread; ``LocalShard`` is its asyncio edge. It must
not know requests, queues, or which page is free.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import kernels
from schemas.generation import MediaSpan
from schemas.shards import Draw, Forward, ForwardDone, SequenceOpened, ShardReady, Slice, TokenDrawn
from services.inference.compute import ComputeThread
from services.inference.sampling import Sampler
from shared.model.batch import ForwardBatch, Segment
from shared.model.network import Network
from shared.model.pages import PagePool

ShardAbout = Callable[[], ShardReady]


class Embeddings(Protocol):
    """Where embeddings come from: an encoder here, or elsewhere."""

    async def rows(self, span: MediaSpan) -> Tensor:
        """[M, D]. Raises NotFound, BadInput or Unavailable."""
        ...


@dataclass
class Running:
    """What a shard keeps of one sequence: a copy of its page table, and the counts of its penalties."""

    sampler: Sampler
    pages: NDArray[np.int32]


class Layers:
    def __init__(self, network: Network, pool: PagePool) -> None:
        self._text, self._pool = network.language_model, pool
        self._running: dict[int, Running] = {}
        self._media: dict[str, Tensor] = {}

    def clear(self) -> None:
        self._running.clear()
        self._media.clear()

    def hold(self, key: str, rows: Tensor) -> None:
        self._media[key] = rows

    @torch.inference_mode()
    def run(self, forward: Forward) -> ForwardDone:
        """Note what changed, compute every row, draw. What was noted stays, also when computing fails."""
        self._note(forward)
        drawing = [(row, piece) for row, piece in enumerate(forward.slices) if piece.draw is not None]
        hidden, last = self._hidden(forward.slices)
        drawn: tuple[TokenDrawn, ...] = ()
        if drawing:
            rows = hidden if len(drawing) == len(hidden) else hidden[last[[row for row, _ in drawing]]]
            drawn = self._draw([piece for _, piece in drawing], self._text.logits(rows).cpu().numpy())
            for token in drawn:
                self._running[token.sequence].sampler.keep(token.token)
        return ForwardDone(number=forward.number, drawn=drawn)

    def _note(self, forward: Forward) -> None:
        for sequence in forward.closed:
            self._running.pop(sequence, None)
        for key in forward.dropped:
            self._media.pop(key, None)
        for opened in forward.opened:
            self._running[opened.sequence] = self._opened(opened)
        for piece in forward.slices:
            running = self._running[piece.sequence]
            if piece.pages:
                changed = np.array(piece.pages, dtype=np.int32)
                running.pages = np.concatenate((running.pages[: piece.pages_from], changed))

    def _opened(self, opened: SequenceOpened) -> Running:
        return Running(Sampler(opened, self._text.config.vocab_size), np.empty(0, dtype=np.int32))

    def _hidden(self, slices: tuple[Slice, ...]) -> tuple[Tensor, Tensor]:
        """Hidden states [T, D] of all rows, and the last row of each slice [G]."""
        ids = np.frombuffer(b"".join(piece.ids for piece in slices), dtype="<u4").astype(np.int64)
        segments = [Segment(p.first, len(p.ids) // 4, self._running[p.sequence].pages) for p in slices]
        batch = ForwardBatch(segments, device=self._text.device)
        h = self._text.embed(torch.from_numpy(ids).to(self._text.device))
        for index, piece in enumerate(slices):
            media = [(place.position, self._media[place.key]) for place in piece.media]
            for row, rows in batch.rows_of(index, media):
                h[row : row + len(rows)] = rows
        return self._text(h, batch, self._pool), batch.last

    def _draw(self, pieces: list[Slice], logits: NDArray[np.float32]) -> tuple[TokenDrawn, ...]:
        """A token per row of logits [N, W]."""
        given: list[tuple[Sampler, Draw]] = []
        for piece in pieces:
            assert piece.draw is not None
            given.append((self._running[piece.sequence].sampler, piece.draw))
        rows = [sampler.row(row, draw) for (sampler, draw), row in zip(given, logits, strict=True)]
        return tuple(
            sampler.token(drawn, draw) for (sampler, draw), drawn in zip(given, kernels.draw(rows), strict=True)
        )


class LocalShard:
    """A ``ShardLink`` to layers in this process."""

    def __init__(self, layers: Layers, about: ShardReady, compute: ComputeThread, embeddings: Embeddings) -> None:
        self._layers, self._about, self._compute, self._embeddings = layers, about, compute, embeddings

    async def ready(self) -> ShardReady:
        await self._compute.run(self._layers.clear)
        return self._about

    async def execute(self, forward: Forward) -> ForwardDone:
        return await self._compute.run(partial(self._layers.run, forward))

    async def fetch(self, key: str, span: MediaSpan) -> None:
        rows = await self._embeddings.rows(span)
        await self._compute.run(partial(self._layers.hold, key, rows))
