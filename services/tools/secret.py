"""A key that is read from its file when it is used: a rotated one works at once, and no log or error holds it."""

from dataclasses import dataclass
from pathlib import Path

from shared.errors import Unavailable

SECRET_BYTES = 16 * 1024


@dataclass(frozen=True)
class Secret:
    """``str`` and ``repr`` tell the file, never what it holds."""

    path: Path

    def read(self, *, lines: bool = False) -> str:
        """``lines``: a key of several lines, as PEM is. Raises Unavailable(``tools.no_key``), status 502, when the file
        cannot be read, is empty, or holds what no key does."""
        try:
            with self.path.open("rb") as file:
                text = file.read(SECRET_BYTES).decode().strip()
        except (OSError, UnicodeError):
            text = ""
        if not text or not (text.replace("\n", "") if lines else text).isprintable():
            raise Unavailable("tools.no_key", f"the key file {self.path.name} cannot be used", status=502)
        return text
