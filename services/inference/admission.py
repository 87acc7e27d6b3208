"""What a request must satisfy before any work is done, and its parts as the engine wants them. Pure.

Input: ``GenerateRequest`` and the model's configuration. Output: checked ids and rules, or ``BadInput``.
"""

import numpy as np
from numpy.typing import NDArray

from schemas.blobs import BlobRef, Payload
from schemas.generation import GenerateRequest
from services.inference.encoder import check_span
from services.inference.sampling import SamplingRule
from shared.errors import BadInput
from shared.language.context import answer_room
from shared.model.config import ModelConfig

ID_BYTES = 4


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
    _check_sampling(request, config)
    _check_media(request, prompt, config)


def id_count(payload: Payload, param: str) -> int:
    size = payload.size_bytes if isinstance(payload, BlobRef) else len(payload)
    if size % ID_BYTES:
        raise refusal(param, f"{param} is not a list of uint32")
    return size // ID_BYTES


def _check_sampling(request: GenerateRequest, config: ModelConfig) -> None:
    if not 0 <= request.temperature <= 100:
        raise refusal("temperature", "temperature must be between 0 and 100")
    if not 0 < request.top_p <= 1:
        raise refusal("top_p", "top_p must be above 0 and at most 1")
    if request.thinking is not None and not 0 <= request.thinking.end_id < config.text.vocab_size:
        raise refusal("thinking", "thinking.end_id is not in the vocabulary")


def _check_media(request: GenerateRequest, prompt: int, config: ModelConfig) -> None:
    end = 0
    for span in sorted(request.media, key=lambda span: span.position):
        check_span(span, config.vision)
        if span.position < end:
            raise refusal("media", "media spans overlap")
        end = span.position + span.tokens
    if end > prompt:
        raise refusal("media", "a media span reaches beyond the prompt")


def decode_ids(data: bytes, vocabulary: int, param: str) -> NDArray[np.int64]:
    """Little-endian uint32 bytes as ids inside the vocabulary. Raises BadInput."""
    ids = np.frombuffer(data, dtype="<u4").astype(np.int64)
    if ids.size and int(ids.max()) >= vocabulary:
        raise refusal(param, f"{param} holds id {int(ids.max())}, the vocabulary ends at {vocabulary - 1}")
    return ids


def encode_ids(ids: list[int]) -> bytes:
    return np.asarray(ids, dtype="<u4").tobytes()


def sampling_rule(request: GenerateRequest, forbidden: NDArray[np.int64], vocabulary: int) -> SamplingRule:
    unique = np.unique(forbidden)
    if unique.size >= vocabulary:
        raise refusal("forbidden_ids", "every id is forbidden")
    return SamplingRule(
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
        forbidden=unique if unique.size else None,
        thinking=request.thinking,
    )


def refusal(param: str, message: str) -> BadInput:
    return BadInput("generation.bad_request", message, param=param)
