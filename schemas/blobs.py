"""References to bytes that do not travel in messages (design principle 4)."""

import msgspec


class BlobRef(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes in the blob store. ``key`` is ``sha256/<hex>`` of the bytes."""

    key: str
    size_bytes: int


Payload = bytes | BlobRef
"""What may exceed ``INLINE_MAX_BYTES``: small values inline, large ones by reference."""

INLINE_MAX_BYTES = 256 * 1024
