"""What discovery says of an engine: what it serves, how busy it is now, and which prefixes it knows.

Read whenever somebody asks, so it must be cheap. ``prefixes`` holds CRC-32 of the names of first blocks (the first
``page_tokens`` ids as little-endian uint32): whoever chooses an engine can compute the same from a prompt without
media.
"""

import zlib
from collections.abc import Iterator, Mapping

from services.inference.engine import Engine

MOST_PREFIXES = 64


class Announcement(Mapping[str, str]):
    def __init__(self, fixed: Mapping[str, str], engine: Engine) -> None:
        self._fixed, self._engine = dict(fixed), engine

    def _now(self) -> dict[str, str]:
        cache = self._engine.state.cache
        names = cache.first_blocks(MOST_PREFIXES)
        return self._fixed | {
            "load": str(self._engine.load),
            "queued_tokens": str(self._engine.rows_left),
            "pages": str(cache.pages),
            "pages_available": str(cache.available),
            "page_tokens": str(cache.page_tokens),
            "prefixes": ",".join(f"{zlib.crc32(name):08x}" for name in names),
        }

    def __getitem__(self, key: str) -> str:
        return self._now()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())
