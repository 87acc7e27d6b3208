"""Area TOKENIZER: the variables ``MOONTIDE_TOKENIZER_*``."""

from pathlib import Path
from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class TokenizerConfig(msgspec.Struct, frozen=True, kw_only=True):
    checkpoint_dir: Path
    """Vocabulary and configuration are read from here; weights are not."""
    model: str | None = None
    """Name to serve; by default the name of the checkpoint directory, in lower case."""
    max_calls: Count = 256
    """Chats in progress; one more is refused with a retry-after."""
    media_silence_seconds: Seconds = 5.0
    """Without a word from ingest for this long a media job is asked for again; doubled each time."""
    media_attempts: Annotated[int, msgspec.Meta(ge=1, le=16)] = 6
    media_parallel: Count = 8
    """Media jobs of one request that are waited for at once."""
    max_media: Count = 1024
    """Media parts of one request."""
    thinking_budget_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Reasoning tokens after which an answer is asked for, where a request does not say; None: the checkpoint's."""
    cache_chars: Count = 32_000_000
    """Text whose encoding is kept."""

    @property
    def served_model(self) -> str:
        return self.model or self.checkpoint_dir.resolve().name.lower()
