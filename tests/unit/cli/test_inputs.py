"""Kinds of files by their first bytes, then by their names."""

from pathlib import Path

import pytest

from services.cli import clip, inputs
from shared.errors import BadInput


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.mp4", b"\x89PNG\r\n\x1a\nrest", "image"),
        ("a", b"\xff\xd8\xff\xe0", "image"),
        ("a", b"GIF89a", "image"),
        ("a", b"RIFF\0\0\0\0WEBPVP8 ", "image"),
        ("a.png", b"RIFF\0\0\0\0AVI LIST", "video"),
        ("a", b"\0\0\0\x20ftypqt  ", "video"),
        ("a", b"\x1aE\xdf\xa3", "video"),
        ("a", b"FLV\x01\x05", "video"),
        ("a.mp4", b"just text", "video"),
        ("A.PNG", b"", "image"),
    ],
)
def test_bytes_win_over_the_name(tmp_path: Path, name: str, data: bytes, kind: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert inputs.kind_of(path) == kind


def test_neither_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"words")
    with pytest.raises(BadInput, match=r"notes\.txt is neither"):
        inputs.kind_of(path)


def test_the_demo_clip_is_a_video_that_decodes(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    clip.write(path)
    assert inputs.kind_of(path) == "video"
    with clip.av.open(str(path)) as container:
        stream = container.streams.video[0]
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(pictures) == 3 * clip.SCENE_SECONDS * clip.FRAMES_PER_SECOND
    assert {picture.shape for picture in pictures} == {(clip.HEIGHT, clip.WIDTH, 3)}
    assert len({picture.mean().round() for picture in pictures[::50]}) == 3
