"""Which files a command line names, and whether each is an image or a video.

Input: paths. Output: files and their kind, from the first bytes, else from the file name. Decodes nothing: whether a
file is sound is found out by the stack.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from schemas.media import MediaKind
from shared.errors import BadInput

HEAD_BYTES = 32
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif"})
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".webm", ".mkv", ".mpeg", ".mpg", ".flv", ".wmv", ".3gp", ".3gpp"}
)
IMAGE_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
VIDEO_STARTS = (
    b"\x1aE\xdf\xa3",  # Matroska and WebM
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG video sequence
    b"FLV\x01",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF: wmv
)


def kind_of_bytes(head: bytes) -> MediaKind | None:
    """From the signatures of the container formats; None when there is none that we know."""
    if head.startswith(IMAGE_STARTS) or (head.startswith(b"RIFF") and head[8:12] == b"WEBP"):
        return "image"
    if head.startswith(VIDEO_STARTS) or (head.startswith(b"RIFF") and head[8:12] == b"AVI "):
        return "video"
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return "video"
    return None


def kind_of_name(path: Path) -> MediaKind | None:
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "image"
    return "video" if suffix in VIDEO_SUFFIXES else None


def kind_of(path: Path) -> MediaKind:
    """Raises BadInput when the file cannot be read, or is neither."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise BadInput("input.unreadable", f"{path}: {error.strerror}", param=str(path)) from error
    kind = kind_of_bytes(head) or kind_of_name(path)
    if kind is None:
        raise BadInput("input.unknown_kind", f"{path} is neither an image nor a video", param=str(path))
    return kind


def expand(paths: Iterable[Path]) -> Iterator[Path]:
    """Files as given; of a directory all media files inside, by name. A directory without any is given as itself."""
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if kind_of_name(file) and file.is_file())
            yield from inside or [path]
        else:
            yield path
