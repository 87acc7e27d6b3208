"""The decode ceiling: what memory bandwidth allows, whatever computes.

Input: bytes that a round of decoding reads, and the bandwidth of who holds them. Output: tokens per second. It must not
know devices by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Holder:
    """A device, or the host memory, and what one round of all sequences reads of it."""

    bandwidth: float
    """Bytes per second."""
    trunk: int
    """Bytes read once per round: layers without routed experts, and the head."""
    cache: int
    """Bytes of one sequence's cache."""
    expert_share: float
    """Of the experts of each layer."""


@dataclass(frozen=True)
class Routing:
    experts: int
    chosen: int
    """Per token."""
    layers: int
    """With routed experts."""
    expert_bytes: float
    """One expert of one layer."""

    def touched(self, tokens: int) -> float:
        """Different experts that a layer reads for ``tokens`` tokens: E (1 - (1 - K/E)^n), routed evenly."""
        return self.experts * (1 - (1 - self.chosen / self.experts) ** tokens)


def one_token_seconds(holders: Sequence[Holder], routing: Routing) -> float:
    """Least time of one token of one sequence: layers come one after another, so that every byte of trunk and cache is
    read at the bandwidth of the one that holds it; the experts of a layer are read by all holders at once."""
    trunk = sum((holder.trunk + holder.cache) / holder.bandwidth for holder in holders)
    return trunk + expert_seconds(holders, routing)


def expert_seconds(holders: Sequence[Holder], routing: Routing) -> float:
    """Per layer, the slowest holder reads its share of the chosen experts; some holder reads a whole one."""
    if not routing.layers:
        return 0.0
    whole = routing.expert_bytes / max(holder.bandwidth for holder in holders if holder.expert_share)
    shares = (routing.chosen * holder.expert_share * routing.expert_bytes / holder.bandwidth for holder in holders)
    return routing.layers * max(whole, *shares)


def round_seconds(holders: Sequence[Holder], routing: Routing, sequences: int) -> float:
    """Least time in which each sequence gains one token: that of one token, or, if longer, what the busiest holder has
    to read: its trunk once, every touched expert once, every sequence's cache."""
    touched = routing.layers * routing.touched(sequences) * routing.expert_bytes
    busiest = max(
        (holder.trunk + sequences * holder.cache + holder.expert_share * touched) / holder.bandwidth
        for holder in holders
    )
    return max(busiest, one_token_seconds(holders, routing))
