"""The work that is timed, the same for every contender, and what one of them must be able to do. Pure.

Input: nothing. Output: ``WORKS`` and the protocol ``Contender``.
"""

from typing import Literal, Protocol

import msgspec

WorkName = Literal["decode_batch_1", "decode_batch_16", "prefill_512", "expert_kernel_1_row"]

CONTEXT_TOKENS = 64
"""Of each sequence before decoding starts."""


class Work(msgspec.Struct, frozen=True, kw_only=True):
    name: WorkName
    unit: Literal["tokens/s", "rows/s"]
    kind: Literal["decode", "prefill", "experts"]
    rows: int
    """Sequences of a decode step, tokens of a prefill, rows of an expert product."""
    repeats: int
    """Steps or calls per turn: about a second or two of work."""


WORKS: tuple[Work, ...] = (
    Work(name="decode_batch_1", unit="tokens/s", kind="decode", rows=1, repeats=64),
    Work(name="decode_batch_16", unit="tokens/s", kind="decode", rows=16, repeats=12),
    Work(name="prefill_512", unit="tokens/s", kind="prefill", rows=512, repeats=1),
    Work(name="expert_kernel_1_row", unit="rows/s", kind="experts", rows=1, repeats=400),
)


class Contender(Protocol):
    """One engine with the weights of one checkpoint. Each method returns the seconds that the work took."""

    def decode(self, sequences: int, steps: int) -> float:
        """``steps`` tokens, greedily, for each of ``sequences`` that have ``CONTEXT_TOKENS`` behind them."""
        ...

    def prefill(self, tokens: int) -> float:
        """The logits after a prompt of ``tokens``, nothing cached."""
        ...

    def experts(self, rows: int, calls: int) -> float:
        """``calls`` products of ``rows`` rows with the experts that a router chose, different ones in each call."""
        ...

    def logits(self, ids: list[int]) -> list[float]:
        """Of the last position: tells whether contenders have the same weights."""
        ...


def prompt(tokens: int, sequence: int, vocabulary: int) -> list[int]:
    """Token ids without meaning, different for each sequence: a multiplicative walk through the vocabulary."""
    return [(7919 * (position + 1) + 104_729 * (sequence + 1)) % vocabulary for position in range(tokens)]


def chosen_experts(call: int, chosen: int, experts: int) -> list[int]:
    """``chosen`` different experts; those of following calls lie elsewhere in memory."""
    return [(call * chosen + place) * 5 % experts for place in range(chosen)]
