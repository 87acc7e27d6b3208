"""API keys: who sends a request. Keys are kept and compared as hashes only, and never logged.

Input: a keys file and the ``Authorization`` header. Output: a ``Principal``. It must not know what is asked for.
"""

import hashlib
from pathlib import Path
from typing import Self

from schemas.request import Principal
from shared.errors import Internal, Unauthorized


class Keys:
    """Without keys everybody is the local principal."""

    def __init__(self, digests: frozenset[str] | None) -> None:
        self._digests = digests

    @classmethod
    def load(cls, path: Path | None) -> Self:
        """One key per line; empty lines and lines that begin with ``#`` do not count."""
        if path is None:
            return cls(None)
        try:
            lines = [line.strip() for line in path.read_text().splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise Internal("gateway.keys_file", f"keys file {path} cannot be read") from error
        keys = [line for line in lines if line and not line.startswith("#")]
        if not keys:
            raise Internal("gateway.keys_file", f"keys file {path} holds no key")
        return cls(frozenset(_digest(key) for key in keys))

    def principal(self, authorization: str | None) -> Principal:
        """Raises Unauthorized(``missing_api_key`` or ``incorrect_api_key``)."""
        if self._digests is None:
            return Principal()
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Unauthorized("missing_api_key", "send your API key as 'Authorization: Bearer KEY'")
        # Looking up a digest takes no time that depends on how much of a key was right.
        digest = _digest(key.strip())
        if digest not in self._digests:
            raise Unauthorized("incorrect_api_key", "this API key is not known")
        return Principal(tenant="keys", key_id=digest[:16])


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
