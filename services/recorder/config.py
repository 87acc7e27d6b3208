"""What the recorder can be told: area RECORDER."""

from pathlib import Path
from typing import Annotated

import msgspec


class RecorderConfig(msgspec.Struct, frozen=True, kw_only=True):
    database_path: Path
    max_bytes: Annotated[int, msgspec.Meta(ge=1024 * 1024)] = 512 * 1024 * 1024
    """Of the database; the oldest traces go first."""
    max_age_seconds: Annotated[float, msgspec.Meta(gt=0)] = 7 * 24 * 3600.0
    usage_max_age_seconds: Annotated[float, msgspec.Meta(gt=0)] = 400 * 24 * 3600.0
    """Of the sums by day and key, which are small."""
    """Since a trace was last heard of."""
