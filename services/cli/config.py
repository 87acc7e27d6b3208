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


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Area CLIENT: as whom commands ask a gateway."""

    key: str | None = None
    key_file: Path | None = None
    """Holds the key instead."""


class GatewayKeys(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway's own variable says: commands change the file that it reads."""

    keys_file: Path | None = None


def keys_file() -> Path | None:
    return configuration.load(GatewayKeys, "GATEWAY").keys_file


def client_key() -> str | None:
    """The API key to send, if any. Raises ConfigError when its file cannot be read."""
    config = configuration.load(ClientConfig, "CLIENT")
    if config.key is not None or config.key_file is None:
        return config.key
    try:
        return config.key_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise configuration.ConfigError([f"MOONTIDE_CLIENT_KEY_FILE: {config.key_file} holds no key"]) from error


def load() -> DataConfig:
    """Raises ConfigError naming every bad value."""
    return configuration.load(DataConfig, "DATA")
