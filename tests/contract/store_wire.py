"""``python -m tests.contract.store_wire``: keep the bytes of today's messages, for the tests of all later versions.

Input: the schemas. Output: files ``wire_v1/<message>.<number>.json``, a new number only where today's bytes differ from
all that are stored. What is stored is never rewritten: it is what older processes send.
"""

import json
import sys
from pathlib import Path

import msgspec

from .samples import all_messages, encoded

FOLDER = Path(__file__).parent / "wire_v1"


def stored(name: str) -> list[bytes]:
    """Everything that is kept of a message, oldest first."""
    files = sorted(FOLDER.glob(f"{name}.*.json"), key=lambda path: int(path.suffixes[-2][1:]))
    return [bytes.fromhex(sample) for path in files for sample in json.loads(path.read_text())["samples_hex"]]


def missing(name: str, kind: type[msgspec.Struct]) -> list[bytes]:
    """Today's samples that are not kept yet."""
    kept = stored(name)
    return [data for data in encoded(kind) if data not in kept]


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    for name, kind in all_messages().items():
        fresh = missing(name, kind)
        if not fresh:
            continue
        path = FOLDER / f"{name}.{1 + len(list(FOLDER.glob(f'{name}.*.json')))}.json"
        content = {"message": name, "samples_hex": [data.hex() for data in fresh]}
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(content, indent=1) + "\n")
        print(f"{path.name} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
