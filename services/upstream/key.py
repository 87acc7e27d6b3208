"""The endpoint's key: read from its file, sent in one header, shown nowhere.

Input: a path. Output: the header, and texts of the endpoint with the key taken out. It must not reach a log, a span
or an error, not even in part.
"""

from pathlib import Path

from shared.errors import BadInput

MASK = "[key]"
SHORTEST_PART = 6
"""Endpoints echo keys in part (``sk-abc…xyz``): shared runs of this many characters are taken out as well."""


class Key:
    """``repr`` says nothing. Without a file there is no key and no header."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._text = self._read()

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._text}"} if self._text else {}

    def reload(self) -> bool:
        """Read the file again; True when the key has changed (it was rotated)."""
        before, self._text = self._text, self._read()
        return self._text != before

    def redact(self, text: str) -> str:
        """``text`` without the key and without any part of it that is longer than a coincidence."""
        length = min(SHORTEST_PART, len(self._text))
        if length == 0:
            return text
        parts = {self._text[start : start + length] for start in range(len(self._text) - length + 1)}
        shown, position = [], 0
        for start in range(len(text)):
            if text[start : start + length] in parts:
                shown.append(text[position:start] + (MASK if start >= position else ""))
                position = start + length
        return "".join([*shown, text[position:]])

    def _read(self) -> str:
        if self._path is None:
            return ""
        try:
            text = self._path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput("upstream.config", "the endpoint's key file cannot be read") from error
        if not text.isascii() or not text.isprintable() or " " in text:
            raise BadInput("upstream.config", "the endpoint's key file must hold one printable word")
        return text
