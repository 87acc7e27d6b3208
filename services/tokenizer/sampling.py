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
MAX_TOP_LOGPROBS = 20
MAX_BIASES = 300
MAX_BIAS = 100.0
MAX_PENALTY = 2.0


@dataclass(frozen=True)
class Decoding:
    temperature: float
    top_p: float
    seed: int
    max_tokens: int
    thinking: ThinkingLimit | None


def check_sampling(sampling: Sampling) -> None:
    """What can be refused before any work. Raises BadInput naming the field."""
    _check_range("temperature", sampling.temperature, 0, 2)
    _check_range("min_p", sampling.min_p, 0, 1)
    _check_range("top_k", sampling.top_k, 0, 2**31)
    _check_range("presence_penalty", sampling.presence_penalty, -MAX_PENALTY, MAX_PENALTY)
    _check_range("frequency_penalty", sampling.frequency_penalty, -MAX_PENALTY, MAX_PENALTY)
    _check_range("top_logprobs", sampling.top_logprobs, 0, MAX_TOP_LOGPROBS)
    if sampling.top_p is not None and not 0 < sampling.top_p <= 1:
        raise _refusal("top_p", "top_p must be above 0 and at most 1")
    if not 0 < sampling.repetition_penalty <= MAX_PENALTY:
        raise _refusal("repetition_penalty", f"repetition_penalty must be above 0 and at most {MAX_PENALTY:g}")
    if sampling.max_tokens is not None and sampling.max_tokens < 1:
        raise _refusal("max_tokens", "max_tokens must be at least 1")
    if len(sampling.stop) > MAX_STOPS or not all(0 < len(stop) <= MAX_STOP_CHARS for stop in sampling.stop):
        raise _refusal("stop", f"stop takes up to {MAX_STOPS} strings of 1 to {MAX_STOP_CHARS} characters")


def check_biases(sampling: Sampling, vocabulary_size: int) -> None:
    if len(sampling.logit_bias) > MAX_BIASES:
        raise _refusal("logit_bias", f"logit_bias takes up to {MAX_BIASES} tokens")
    for token_id, bias in sampling.logit_bias:
        if not 0 <= token_id < vocabulary_size:
            raise _refusal("logit_bias", f"logit_bias names {token_id}; there are {vocabulary_size} tokens")
        _check_range("logit_bias", bias, -MAX_BIAS, MAX_BIAS)


def check_budget(budget_tokens: int | None) -> None:
    _check_range("thinking", budget_tokens, 0, 2**31)


def _check_range(param: str, value: float | None, least: float, most: float) -> None:
    if value is not None and not least <= value <= most:
        raise _refusal(param, f"{param} must be between {least:g} and {most:g}")


@dataclass(frozen=True)
class Situation:
    """What besides the request decides: the checkpoint, the prompt, and the server's default for reasoning."""

    checkpoint: Checkpoint
    prompt_tokens: int
    opens_reasoning: bool
    thinking_budget_tokens: int | None = None


def decide(request: ChatRequest, request_id: str, situation: Situation) -> Decoding:
    """Raises BadInput when the prompt, or prompt and ``max_tokens`` together, exceed the context. Without
    ``max_tokens`` the answer may fill it."""
    sampling, checkpoint = request.sampling, situation.checkpoint
    temperature = recommended_temperature(checkpoint, thinking=request.thinking)
    max_tokens = _max_tokens(sampling.max_tokens, checkpoint, situation.prompt_tokens)
    return Decoding(
        temperature=temperature if sampling.temperature is None else sampling.temperature,
        top_p=recommended_top_p(checkpoint) if sampling.top_p is None else sampling.top_p,
        seed=seed_of(request_id) if sampling.seed is None else sampling.seed & MAX_SEED,
        max_tokens=max_tokens,
        thinking=_thinking_limit(request, situation, max_tokens),
    )


def recommended_temperature(checkpoint: Checkpoint, *, thinking: bool) -> float:
    """A checkpoint recommends for its default mode, which is thinking where it can: instant mode draws colder."""
    own = checkpoint.defaults.temperature
    if thinking or not checkpoint.thinks:
        return THINKING_TEMPERATURE if own is None else own
    return INSTANT_TEMPERATURE if own is None else min(own, INSTANT_TEMPERATURE)


def recommended_top_p(checkpoint: Checkpoint) -> float:
    return TOP_P if checkpoint.defaults.top_p is None else checkpoint.defaults.top_p


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


def _thinking_limit(request: ChatRequest, situation: Situation, max_tokens: int) -> ThinkingLimit | None:
    """A default leaves half of the answer to the content; a request may leave as little as ``</think>``."""
    if not situation.opens_reasoning:
        return None
    checkpoint = situation.checkpoint
    defaults = (situation.thinking_budget_tokens, checkpoint.defaults.thinking_budget_tokens)
    default = next((budget for budget in defaults if budget is not None), None)
    end_id = checkpoint.vocabulary.special(specials.END_THINK)
    if request.thinking_budget_tokens is not None:
        return ThinkingLimit(budget_tokens=min(request.thinking_budget_tokens, max_tokens - 1), end_id=end_id)
    return None if default is None else ThinkingLimit(budget_tokens=min(default, max_tokens // 2), end_id=end_id)


def _refusal(param: str, message: str) -> BadInput:
    return BadInput("chat.bad_request", message, param=param)
