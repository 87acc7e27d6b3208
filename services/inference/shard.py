"""The shard role: decoder layers with the caches of sequences; the last layer samples. All of them in one shard today.

Input: token ids at consecutive positions. Output: caches that grow, and a token where one is asked for. Runs in the
compute thread. It must not know requests, queues or messages.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from services.inference.sampling import SamplingRule, choose
from shared.model.batch import ForwardBatch, Segment
from shared.model.network import Network
from shared.model.pages import PAGE, PagePool

MediaRows = tuple[int, Tensor]
"""First position and embeddings [M, D] of one media span."""


@dataclass
class ShardState:
    """What a shard keeps of one sequence: a pool of its own, of which only written pages take memory."""

    pool: PagePool
    media: list[MediaRows] = field(default_factory=list)
    length: int = 0


class Shard:
    def __init__(self, network: Network) -> None:
        self._network = network
        self._text = network.language_model

    def open(self, media: list[MediaRows]) -> ShardState:
        return ShardState(self._text.new_pool(-(-self._text.config.max_position_embeddings // PAGE)), media)

    def prefill(self, state: ShardState, ids: list[int]) -> Tensor:
        """One slice of the prompt: hidden state [1, D] of its last token."""
        batch = ForwardBatch([Segment(state.length, len(ids), range(state.pool.pages))], self._text.device)
        hidden = self._network.embed(self._ids(ids), batch.rows_of(0, state.media))
        state.length += len(ids)
        return self._text(hidden, batch, state.pool)[-1:]

    def decode(self, state: ShardState, token: int) -> Tensor:
        """One token of the answer: hidden state [1, D]."""
        return self.prefill(state, [token])

    def sample(self, hidden: Tensor, rule: SamplingRule, emitted: list[int]) -> int:
        return choose(self._text.logits(hidden)[0].cpu().numpy(), rule, emitted)

    def _ids(self, ids: list[int]) -> Tensor:
        return torch.tensor(ids, dtype=torch.int64, device=self._text.device)
