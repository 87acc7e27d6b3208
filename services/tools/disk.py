"""How much disk a folder takes, while programs write into it.

Input: a folder. Output: bytes of blocks, and entries; what comes and goes meanwhile is not counted. Knows no bounds.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

BLOCK_BYTES = 512
MAX_ENTRIES = 200_000
"""More are not looked at: a folder of so many is over every bound of files."""


@dataclass
class Used:
    size_bytes: int = 0
    """Blocks, not lengths: a file with holes takes little."""
    entries: int = 0


def used(folder: Path) -> Used:
    waiting, total = [os.fspath(folder)], Used()
    while waiting and total.entries < MAX_ENTRIES:
        with suppress(OSError), os.scandir(waiting.pop()) as scan:
            for entry in scan:
                total.entries += 1
                with suppress(OSError):
                    total.size_bytes += entry.stat(follow_symlinks=False).st_blocks * BLOCK_BYTES
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
    return total
