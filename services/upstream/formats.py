"""Media types by the first bytes of a file: a data URI must name one. Pure.

Input: the bytes of something that ingest has already opened. Output: its media type. It must not know file names,
which often lie.
"""

from schemas.media import MediaKind

_STARTS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (8, b"AVI ", "video/x-msvideo"),
    (4, b"ftypqt", "video/quicktime"),
    (4, b"ftyp3g", "video/3gpp"),
    (4, b"ftyp", "video/mp4"),
    (0, b"FLV", "video/x-flv"),
    (0, b"\x30\x26\xb2\x75", "video/x-ms-wmv"),
    (0, b"\x00\x00\x01\xba", "video/mpeg"),
    (0, b"\x00\x00\x01\xb3", "video/mpeg"),
    (0, b"\x47", "video/mpeg"),
)
_EBML = b"\x1a\x45\xdf\xa3"
_EBML_HEAD_BYTES = 64


def media_type(data: bytes, kind: MediaKind) -> str:
    """The media type; of what is not recognised, the commonest of its kind."""
    if data.startswith(_EBML):
        return "video/webm" if b"webm" in data[:_EBML_HEAD_BYTES] else "video/x-matroska"
    for offset, start, name in _STARTS:
        if data[offset : offset + len(start)] == start and name.startswith(kind):
            return name
    return "image/jpeg" if kind == "image" else "video/mp4"
