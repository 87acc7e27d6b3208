"""Lines of the workspace that match a pattern. Runs in the sandbox: one pattern can take longer than anybody waits.

Input: one JSON object as argument. Output: ``path:line: text``, bounded. Imports the standard library only.
"""

import fnmatch
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_MATCHES = 200
MAX_LINE_CHARACTERS = 300
MAX_FILE_BYTES = 16 * 1024 * 1024
UNSEARCHED = {".git", "__pycache__", "node_modules", ".venv"}


def main() -> None:
    given = json.loads(sys.argv[1])
    try:
        pattern = re.compile(given["pattern"])
    except re.error as error:
        sys.exit(f"the pattern is no regular expression: {error}")
    if not os.path.lexists(given["path"]):
        sys.exit(f"there is no {given['path']!r} in the workspace")
    count = 0
    for path in files(given["path"]):
        if not chosen(path, given["glob"]):
            continue
        for number, line in matches(path, pattern):
            if count == MAX_MATCHES:
                print(f"[more than {MAX_MATCHES} matches: narrow the pattern, the path or the glob]")
                return
            print(f"{path}:{number}: {line}", flush=True)
            count += 1
    if count == 0:
        print("no matches")


def files(path: str) -> Iterator[Path]:
    if Path(path).is_file():
        yield Path(path)
    for folder, names, found in os.walk(path):
        names[:] = sorted(name for name in names if name not in UNSEARCHED)
        for name in sorted(found):
            yield Path(folder, name)


def chosen(path: Path, glob: str) -> bool:
    return not glob or fnmatch.fnmatch(str(path), glob) or fnmatch.fnmatch(path.name, glob)


def matches(path: Path, pattern: "re.Pattern[str]") -> Iterator[tuple[int, str]]:
    if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
        return
    data = path.read_bytes()
    if b"\0" in data[:8192]:
        return
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        if pattern.search(line):
            yield number, line[:MAX_LINE_CHARACTERS]


if __name__ == "__main__":
    main()
