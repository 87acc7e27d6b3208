"""What a tokenizer needs of a checkpoint directory: vocabulary, chat template, context length,
recommended sampling, licence.

Input: the directory. Output: ``Checkpoint``, or BadInput naming the file that is wrong. Weights are never opened.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from shared.errors import BadInput
from shared.language.checkpoint_template import CheckpointTemplate
from shared.language.kimi_vl_template import kimi_vl_template
from shared.language.template import Template, k26_template
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

    model_type: str = ""
    text_config: TextSection
    vision_config: dict[str, Any] | None = None


@dataclass(frozen=True)
class Checkpoint:
    vocabulary: Vocabulary
    settings: ModelSettings
    defaults: GenerationDefaults
    licence: str
    template: Template

    @property
    def _is_kimi_vl(self) -> bool:
        return self.settings.model_type == "kimi_vl"

    @property
    def thinks(self) -> bool:
        """Whether there is a mode with reasoning apart from the content."""
        return not self._is_kimi_vl

    @property
    def has_tools(self) -> bool:
        return not self._is_kimi_vl

    @property
    def context_length(self) -> int:
        return self.settings.text_config.max_position_embeddings

    @property
    def has_vision(self) -> bool:
        return self.settings.vision_config is not None

    @property
    def has_video(self) -> bool:
        return self.has_vision and not self._is_kimi_vl


def load_checkpoint(directory: Path) -> Checkpoint:
    settings = _read(directory / "config.json", ModelSettings)
    path = directory / "generation_config.json"
    defaults = _read(path, GenerationDefaults) if path.exists() else GenerationDefaults()
    vocabulary = load_vocabulary(directory)
    if settings.text_config.vocab_size < vocabulary.size:
        raise BadInput("checkpoint.vocabulary", f"{directory}: vocab_size of config.json is less than the vocabulary")
    return Checkpoint(vocabulary, settings, defaults, licence_of(directory), _template(directory, settings, vocabulary))


def _template(directory: Path, settings: ModelSettings, vocabulary: Vocabulary) -> Template:
    """The checkpoint's own, if it brings one; else the one of its family."""
    path = directory / "chat_template.jinja"
    try:
        return CheckpointTemplate(path.read_text(encoding="utf-8"), vocabulary.special_ids)
    except FileNotFoundError:
        return kimi_vl_template if settings.model_type == "kimi_vl" else k26_template
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("checkpoint.template", f"cannot read {path}: {error}") from error


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
