"""What kind of picture or film a file is, by its first bytes. Pure: names are not looked at, which often lie."""

from schemas.media import MediaKind

HEAD_BYTES = 512
_STARTS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (8, b"AVI ", "video/x-msvideo"),
    (4, b"ftypqt", "video/quicktime"),
    (4, b"ftyp3g", "video/3gpp"),
    (4, b"ftyp", "video/mp4"),
    (0, b"FLV\x01", "video/x-flv"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-wmv"),
    (0, b"\x00\x00\x01\xba", "video/mpeg"),
    (0, b"\x00\x00\x01\xb3", "video/mpeg"),
)
_RIFF = ("image/webp", "video/x-msvideo")
_STILL_IMAGES = (b"ftypavif", b"ftypavis", b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1")
_EBML = b"\x1a\x45\xdf\xa3"
_MPEG_PACKET_BYTES = 188


def media_format(head: bytes) -> tuple[MediaKind, str] | None:
    """(kind, media type) of what ingest may know to open; None for everything else."""
    if head.startswith(_EBML):
        return ("video", "video/webm" if b"webm" in head[:64] else "video/x-matroska")
    if head[4:12] in _STILL_IMAGES:
        return None
    for offset, start, name in _STARTS:
        if head[offset : offset + len(start)] == start and (name not in _RIFF or head.startswith(b"RIFF")):
            return ("image" if name.startswith("image") else "video", name)
    if head[:1] == head[_MPEG_PACKET_BYTES : _MPEG_PACKET_BYTES + 1] == b"\x47":
        return ("video", "video/mpeg")
    return None
