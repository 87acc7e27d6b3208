"""What a request must satisfy before any work is done, and its parts as the engine wants them. Pure.

Input: ``GenerateRequest`` and the model's configuration. Output: checked ids and rules, or ``BadInput``.
"""

import numpy as np
from numpy.typing import NDArray

from schemas.blobs import BlobRef, Payload
from schemas.generation import GenerateRequest
from schemas.shards import SamplingRule
from services.inference.media import check_media
from shared.errors import BadInput
from shared.language.context import answer_room
from shared.model.config import ModelConfig

ID_BYTES = 4
MAX_TOP_LOGPROBS = 20
MAX_BIASES = 1024
SEED_RANGE = 2**64
SAMPLING_BOUNDS = (
    ("temperature", 0, 100),
    ("top_p", 0, 1),
    ("top_k", 0, 2**31 - 1),
    ("min_p", 0, 1),
    ("presence_penalty", -2, 2),
    ("frequency_penalty", -2, 2),
    ("repetition_penalty", 0, 100),
    ("expected_pause_seconds", 0, 7 * 24 * 3600),
)
"""Both ends included."""


def check_request(request: GenerateRequest, config: ModelConfig) -> None:
    """Everything that can be said without fetching a payload. Raises BadInput naming the field."""
    prompt, emitted = id_count(request.prompt_ids, "prompt_ids"), id_count(request.emitted_ids, "emitted_ids")
    id_count(request.forbidden_ids, "forbidden_ids")
    context = config.text.max_position_embeddings
    if prompt < 1:
        raise refusal("prompt_ids", "the prompt is empty")
    if request.max_tokens < 1:
        raise refusal("max_tokens", "max_tokens must be at least 1")
    room = answer_room(context, prompt)
    if not room:
        raise BadInput(
            "generation.too_long", f"{prompt} prompt tokens exceed the context of {context} tokens", param="prompt_ids"
        )
    if request.max_tokens > room:
        raise BadInput(
            "generation.too_long",
            f"{prompt} prompt tokens and max_tokens {request.max_tokens} exceed the context of {context} tokens",
            param="max_tokens",
        )
    if emitted > request.max_tokens:
        raise refusal("emitted_ids", "more tokens were emitted than max_tokens allows")
    _check_sampling(request, config.text.vocab_size)
    check_media(request, prompt, config.vision)


def id_count(payload: Payload, param: str) -> int:
    size = payload.size_bytes if isinstance(payload, BlobRef) else len(payload)
    if size % ID_BYTES:
        raise refusal(param, f"{param} is not a list of uint32")
    return size // ID_BYTES


def _check_sampling(request: GenerateRequest, vocabulary: int) -> None:
    for name, low, high in SAMPLING_BOUNDS:
        value = getattr(request, name)
        if not low <= value <= high:
            raise refusal(name, f"{name} must be between {low:g} and {high:g}")
    if request.top_p == 0:
        raise refusal("top_p", "top_p must be above 0")
    if request.repetition_penalty == 0:
        raise refusal("repetition_penalty", "repetition_penalty must be above 0")
    if request.top_logprobs is not None and not 0 <= request.top_logprobs <= MAX_TOP_LOGPROBS:
        raise refusal("top_logprobs", f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}")
    if request.thinking is not None and not 0 <= request.thinking.end_id < vocabulary:
        raise refusal("thinking", "thinking.end_id is not in the vocabulary")
    _check_bias(request, vocabulary)


def _check_bias(request: GenerateRequest, vocabulary: int) -> None:
    if len(request.logit_bias) > MAX_BIASES:
        raise refusal("logit_bias", f"logit_bias holds more than {MAX_BIASES} ids")
    for token, bias in request.logit_bias:
        if not (0 <= token < vocabulary and -100 <= bias <= 100):
            raise refusal("logit_bias", f"logit_bias of id {token} is not in the vocabulary, or not within 100")


def decode_ids(data: bytes, vocabulary: int, param: str) -> NDArray[np.int64]:
    """Little-endian uint32 bytes as ids inside the vocabulary. Raises BadInput."""
    ids = np.frombuffer(data, dtype="<u4").astype(np.int64)
    if ids.size and int(ids.max()) >= vocabulary:
        raise refusal(param, f"{param} holds id {int(ids.max())}, the vocabulary ends at {vocabulary - 1}")
    return ids


def encode_ids(ids: list[int]) -> bytes:
    return np.asarray(ids, dtype="<u4").tobytes()


def sampling_rule(request: GenerateRequest, forbidden: NDArray[np.int64], vocabulary: int) -> SamplingRule:
    """Raises BadInput when nothing may be chosen."""
    bits = np.zeros(vocabulary, dtype=bool)
    bits[forbidden] = True
    if bits.all():
        raise refusal("forbidden_ids", "every id is forbidden")
    return SamplingRule(
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed % SEED_RANGE,
        top_k=min(request.top_k, vocabulary),
        min_p=request.min_p,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        repetition_penalty=request.repetition_penalty,
        logit_bias=request.logit_bias,
        forbidden=np.packbits(bits, bitorder="little").tobytes() if forbidden.size else b"",
        top_logprobs=request.top_logprobs,
    )


def refusal(param: str, message: str) -> BadInput:
    return BadInput("generation.bad_request", message, param=param)
