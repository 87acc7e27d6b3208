"""What service and interpreter say to each other: a JSON head, and pieces of bytes behind it.

Input and output: streams, heads and pieces. Must not know what they mean. Imports the standard library only.
"""

import json
import struct
from typing import Any, BinaryIO

LENGTH = struct.Struct(">I")
MAX_HEAD_BYTES = 16 * 1024 * 1024


def packed(head: dict[str, Any], pieces: list[bytes]) -> bytes:
    data = json.dumps({**head, "pieces": [len(piece) for piece in pieces]}).encode()
    return b"".join((LENGTH.pack(len(data)), data, *pieces))


def head_bytes(length: bytes) -> int:
    """Raises ValueError for what no head is as long as."""
    (count,) = LENGTH.unpack(length)
    if count > MAX_HEAD_BYTES:
        raise ValueError(f"a head of {count} bytes")
    return count


def read(stream: BinaryIO) -> tuple[dict[str, Any], list[bytes]] | None:
    """None at the end of the stream."""
    length = stream.read(LENGTH.size)
    if len(length) < LENGTH.size:
        return None
    head = json.loads(stream.read(head_bytes(length)))
    return head, [stream.read(count) for count in head["pieces"]]
