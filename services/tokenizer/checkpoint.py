"""What a tokenizer needs of a checkpoint directory: vocabulary, context length, recommended sampling, licence.

Input: the directory. Output: ``Checkpoint``, or BadInput naming the file that is wrong. Weights are never opened.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from shared.errors import BadInput
from shared.language.vocabulary import Vocabulary, load_vocabulary

_CARD_LICENCE = re.compile(r"^(license_name|license):\s*(\S+)\s*$", re.MULTILINE)
_CARD_BYTES = 4096

Positive = Annotated[int, msgspec.Meta(ge=1)]


class GenerationDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """generation_config.json: what the checkpoint recommends. None: the values recommended for K2.6."""

    temperature: Annotated[float, msgspec.Meta(ge=0)] | None = None
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    max_new_tokens: Positive | None = None
    thinking_budget_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Reasoning tokens after which ``</think>`` is forced; half of ``max_tokens`` if that is less."""
    moontide_random_weights: bool = False
    """True: the weights were never trained, and answers are noise."""


class TextSection(msgspec.Struct, frozen=True, kw_only=True):
    max_position_embeddings: Positive
    vocab_size: Positive


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """config.json, as far as it matters here."""

    text_config: TextSection
    vision_config: dict[str, Any] | None = None


@dataclass(frozen=True)
class Checkpoint:
    vocabulary: Vocabulary
    settings: ModelSettings
    defaults: GenerationDefaults
    licence: str

    @property
    def context_length(self) -> int:
        return self.settings.text_config.max_position_embeddings

    @property
    def has_vision(self) -> bool:
        return self.settings.vision_config is not None


def load_checkpoint(directory: Path) -> Checkpoint:
    settings = _read(directory / "config.json", ModelSettings)
    path = directory / "generation_config.json"
    defaults = _read(path, GenerationDefaults) if path.exists() else GenerationDefaults()
    vocabulary = load_vocabulary(directory)
    if settings.text_config.vocab_size < vocabulary.size:
        raise BadInput("checkpoint.vocabulary", f"{directory}: vocab_size of config.json is less than the vocabulary")
    return Checkpoint(vocabulary, settings, defaults, licence_of(directory))


def licence_of(directory: Path) -> str:
    """``license_name`` or ``license`` of the model card; ``unknown`` without one."""
    try:
        with (directory / "README.md").open(encoding="utf-8", errors="replace") as card:
            found = {match[1]: match[2] for match in _CARD_LICENCE.finditer(card.read(_CARD_BYTES))}
    except OSError:
        found = {}
    return found.get("license_name") or found.get("license") or "unknown"


def _read(path: Path, kind: Any) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError) as error:
        raise BadInput("checkpoint.config", f"cannot read {path}: {error}") from error
