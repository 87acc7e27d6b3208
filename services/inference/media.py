"""What media of a request must satisfy. Pure; known to the engine, which has no vision tower."""

from schemas.generation import GenerateRequest, MediaSpan
from shared.errors import BadInput
from shared.model.config import VisionConfig

MAX_SIDE = 512
"""Patches per side that the released preprocessor allows."""


def check_media(request: GenerateRequest, prompt: int, vision: VisionConfig | None) -> None:
    """Raise BadInput when spans overlap, leave the prompt, or do not fit the vision tower."""
    end = 0
    for span in sorted(request.media, key=lambda span: span.position):
        check_span(span, vision)
        if span.position < end:
            raise refusal("media spans overlap")
        end = span.position + span.tokens
    if end > prompt:
        raise refusal("a media span reaches beyond the prompt")


def check_span(span: MediaSpan, vision: VisionConfig | None) -> None:
    """Raise BadInput when the grid, the number of tokens or the size of the patches do not fit each other."""
    if vision is None:
        raise refusal("this model takes no media")
    frames, height, width = span.grid
    if frames > 1 == vision.position_time:
        raise refusal("this model takes images; a video's chunk of several frames is beyond its vision tower")
    if not (1 <= frames <= vision.position_time and 0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise refusal(f"media grid {span.grid} is out of bounds")
    if height % vision.merge_height or width % vision.merge_width:
        raise refusal(f"media grid {span.grid} does not divide into squares of merged patches")
    tokens = height * width // (vision.merge_height * vision.merge_width)
    if span.tokens != tokens:
        raise refusal(f"media grid {span.grid} is {tokens} tokens, not {span.tokens}")
    size = frames * height * width * 3 * vision.patch_size**2
    if span.patches.size_bytes != size:
        raise refusal(f"media grid {span.grid} wants {size} bytes of patches, not {span.patches.size_bytes}")


def refusal(message: str) -> BadInput:
    return BadInput("generation.bad_media", message, param="media")
