"""Names for the same weights, used differently (design section 5): what is announced of them. Pure.

Input: the model's name and its checkpoint. Output: ``ModelVariant``s.
"""

from schemas.chat import ModelVariant
from services.tokenizer.checkpoint import Checkpoint
from services.tokenizer.sampling import recommended_temperature, recommended_top_p


def variants(model: str, checkpoint: Checkpoint) -> tuple[ModelVariant, ...]:
    """Empty for a model that has one mode only. Limits stay the checkpoint's defaults, which yield to a long prompt:
    named here they would count as the request's own, and be refused where they do not fit."""
    if not checkpoint.thinks:
        return ()
    return tuple(
        ModelVariant(
            id=f"{model}-{suffix}",
            thinking=thinking,
            temperature=recommended_temperature(checkpoint, thinking=thinking),
            top_p=recommended_top_p(checkpoint),
        )
        for suffix, thinking in (("instant", False), ("thinking", True))
    )
