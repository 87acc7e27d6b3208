"""How much disk a folder takes, while programs write into it.

Input: a folder. Output: bytes of blocks; what comes and goes meanwhile is not counted. Must not know bounds.
"""

import os
from contextlib import suppress
from pathlib import Path

BLOCK_BYTES = 512
MAX_ENTRIES = 200_000
"""More are not looked at: a folder of so many is over every bound of files."""


def used_bytes(folder: Path) -> int:
    """Blocks, not lengths: a file with holes takes little."""
    waiting, total, entries = [os.fspath(folder)], 0, 0
    while waiting and entries < MAX_ENTRIES:
        with suppress(OSError), os.scandir(waiting.pop()) as scan:
            for entry in scan:
                entries += 1
                with suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_blocks * BLOCK_BYTES
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
    return total
