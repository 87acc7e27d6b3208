"""The endpoint's key: read from its file, sent in one header, shown nowhere."""

from pathlib import Path

MASK = "[key]"
SHORTEST_PART = 8
"""Endpoints echo keys in part (``sk-abc…xyz``): runs of this many characters are taken out as well."""


class Key:
    """``repr`` says nothing; an empty key is no key."""

    def __init__(self, text: str = "") -> None:
        self._text = text

    @classmethod
    def read(cls, path: Path | None) -> "Key":
        """Raises ValueError naming what is wrong with the file, never what is in it."""
        if path is None:
            return cls()
        try:
            text = path.read_text(encoding="ascii").strip()
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror}") from error
        except UnicodeDecodeError:
            raise ValueError(f"{path}: a key is one line of ASCII") from None
        if not text or not text.isprintable() or " " in text:
            raise ValueError(f"{path}: a key is one line of ASCII without spaces")
        return cls(text)

    def __bool__(self) -> bool:
        return bool(self._text)

    def bearer(self) -> str:
        return self._text

    def redact(self, text: str) -> str:
        """``text`` without the key, and without longer parts of it."""
        length = min(SHORTEST_PART, len(self._text))
        if not length:
            return text
        parts = {self._text[start : start + length] for start in range(len(self._text) - length + 1)}
        shown, position = "", 0
        for start in range(len(text)):
            if text[start : start + length] in parts:
                shown += text[position:start] + (MASK if start >= position else "")
                position = start + length
        return shown + text[position:]
