"""Where the command keeps things on this machine, and which broker it uses. Read from the environment once per run.

Input: environment variables. Output: ``DataConfig``. Knows nothing of what is kept there.
"""

from pathlib import Path

import msgspec

from shared import config as configuration


class DataConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Area DATA, and the names that the rest of the world knows."""

    dir: Path | None = None
    """``MOONTIDE_DATA_DIR``: stacks (blobs, traces, logs) and the checkpoints made here."""
    xdg_data_home: Path | None = None
    nats_url: str | None = None
    """A broker that runs already; none is started then."""

    @property
    def root(self) -> Path:
        """Absolute path of the data directory, which may not exist yet."""
        if self.dir is not None:
            return self.dir.expanduser().absolute()
        base = self.xdg_data_home or Path.home() / ".local" / "share"
        return base.absolute() / "moontide"


def load() -> DataConfig:
    """Raises ConfigError naming every bad value."""
    return configuration.load(DataConfig, "DATA")
