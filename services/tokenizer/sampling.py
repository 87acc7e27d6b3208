"""How one answer is drawn: the request's wishes, else the checkpoint's defaults, else the values recommended for K2.6.

Pure. Input: sampling of a request, checkpoint, prompt length. Output: numbers for an engine, or BadInput naming the
field (reference page section 6).
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from schemas.chat import ChatRequest, Sampling
from schemas.generation import ThinkingLimit
from services.tokenizer.checkpoint import Checkpoint
from shared.errors import BadInput
from shared.language import specials
from shared.language.context import answer_room

THINKING_TEMPERATURE = 1.0
INSTANT_TEMPERATURE = 0.6
TOP_P = 0.95

MAX_SEED = 2**63 - 1
MAX_STOPS = 16
MAX_STOP_CHARS = 256


@dataclass(frozen=True)
class Decoding:
    temperature: float
    top_p: float
    seed: int
    max_tokens: int
    thinking: ThinkingLimit | None


def check_sampling(sampling: Sampling) -> None:
    """What can be refused before any work. Raises BadInput naming the field."""
    if sampling.temperature is not None and not 0 <= sampling.temperature <= 2:
        raise _refusal("temperature", "temperature must be between 0 and 2")
    if sampling.top_p is not None and not 0 < sampling.top_p <= 1:
        raise _refusal("top_p", "top_p must be above 0 and at most 1")
    if sampling.max_tokens is not None and sampling.max_tokens < 1:
        raise _refusal("max_tokens", "max_tokens must be at least 1")
    if len(sampling.stop) > MAX_STOPS or not all(0 < len(stop) <= MAX_STOP_CHARS for stop in sampling.stop):
        raise _refusal("stop", f"stop takes up to {MAX_STOPS} strings of 1 to {MAX_STOP_CHARS} characters")


def decide(request: ChatRequest, request_id: str, checkpoint: Checkpoint, prompt_tokens: int) -> Decoding:
    """Raises BadInput when the prompt, or prompt and ``max_tokens`` together, exceed the context. Without
    ``max_tokens`` the answer may fill it."""
    sampling, defaults = request.sampling, checkpoint.defaults
    recommended = THINKING_TEMPERATURE if request.thinking else INSTANT_TEMPERATURE
    max_tokens = _max_tokens(sampling.max_tokens, checkpoint, prompt_tokens)
    return Decoding(
        temperature=_first(sampling.temperature, defaults.temperature, recommended),
        top_p=_first(sampling.top_p, defaults.top_p, TOP_P),
        seed=seed_of(request_id) if sampling.seed is None else sampling.seed & MAX_SEED,
        max_tokens=max_tokens,
        thinking=_thinking_limit(request, checkpoint, max_tokens),
    )


def seed_of(request_id: str) -> int:
    """Without a seed: from the request's id, so that another attempt gives the same answer. 63 bits."""
    return int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:8], "little") >> 1


def forbidden_ids(checkpoint: Checkpoint, *, thinking: bool, tools: bool) -> bytes:
    """Little-endian uint32: every special or undefined id except those that the answer's form needs."""
    vocabulary = checkpoint.vocabulary
    allowed = [*specials.STOPS]
    allowed += [specials.END_THINK] if thinking else []
    allowed += specials.TOOL_MARKERS if tools else []
    behind_ranks = np.arange(vocabulary.rank_count, checkpoint.settings.text_config.vocab_size, dtype="<u4")
    return np.setdiff1d(behind_ranks, [vocabulary.special(name) for name in allowed]).astype("<u4").tobytes()


def _max_tokens(wanted: int | None, checkpoint: Checkpoint, prompt_tokens: int) -> int:
    room = answer_room(checkpoint.context_length, prompt_tokens)
    if not room:
        raise BadInput(
            "chat.context_overflow",
            f"the prompt has {prompt_tokens} tokens, and the context holds {checkpoint.context_length}",
            param="messages",
        )
    if wanted is not None and wanted > room:
        raise BadInput(
            "chat.context_overflow",
            f"{prompt_tokens} prompt tokens and max_tokens {wanted} exceed the context of {checkpoint.context_length}",
            param="max_tokens",
        )
    return wanted or min(checkpoint.defaults.max_new_tokens or room, room)


def _thinking_limit(request: ChatRequest, checkpoint: Checkpoint, max_tokens: int) -> ThinkingLimit | None:
    budget = checkpoint.defaults.thinking_budget_tokens
    if budget is None or not request.thinking:
        return None
    end_id = checkpoint.vocabulary.special(specials.END_THINK)
    return ThinkingLimit(budget_tokens=min(budget, max_tokens // 2), end_id=end_id)


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)


def _refusal(param: str, message: str) -> BadInput:
    return BadInput("chat.bad_request", message, param=param)
