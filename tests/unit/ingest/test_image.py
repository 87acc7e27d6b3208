"""Images: formats, orientation, odd modes, and the ones that are refused."""

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.ingest.exchange import Decoded, chunk_file, frame_file
from services.ingest.image import prepare_image
from shared.errors import BadInput
from shared.media.patches import from_patches
from tests.unit.ingest.clips import draw, png, png_claiming, write_oriented_jpeg
from tests.unit.ingest.requests import request


def prepared(source: Path, folder: Path) -> tuple[Decoded, np.ndarray]:
    """The numbers, and the pixels that the model sees, padding included."""
    found = prepare_image(request(source, folder / "out", "image"))
    patches = np.fromfile(chunk_file(folder / "out", 0), np.uint8).reshape(-1, 3, 14, 14)
    return found, from_patches(patches, found.chunks[0].grid)[0]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
def test_every_format_is_one_chunk_of_one_frame(tmp_path: Path, form: str) -> None:
    Image.fromarray(draw(0, 320, 180)).save(tmp_path / "picture", form)
    found, pixels = prepared(tmp_path / "picture", tmp_path)
    assert (found.width, found.height, found.media_tokens) == (320, 180, 84)
    assert found.chunks[0].timestamp_text == ""
    assert np.abs(pixels[:180, :320] - draw(0, 320, 180).astype(int)).mean() < 8
    assert frame_file(tmp_path / "out", 0).stat().st_size > 0


def test_an_animated_gif_is_its_first_frame(tmp_path: Path) -> None:
    pictures = [Image.fromarray(draw(index * 16, 320, 180)) for index in range(3)]
    pictures[0].save(tmp_path / "moving.gif", save_all=True, append_images=pictures[1:])
    _, pixels = prepared(tmp_path / "moving.gif", tmp_path)
    assert np.abs(pixels[:180, :320] - draw(0, 320, 180).astype(int)).mean() < 8


UPRIGHT = {
    1: lambda picture: picture,
    2: np.fliplr,
    3: lambda picture: np.rot90(picture, 2),
    4: np.flipud,
    5: lambda picture: picture.transpose(1, 0, 2),
    6: lambda picture: np.rot90(picture, -1),
    7: lambda picture: np.rot90(picture, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_every_orientation_is_shown_upright(tmp_path: Path, orientation: int) -> None:
    stored = draw(0, 112, 56)
    path = write_oriented_jpeg(tmp_path / "picture.jpg", orientation, stored)
    found, pixels = prepared(path, tmp_path)
    expected = UPRIGHT[orientation](stored)
    assert (found.height, found.width) == expected.shape[:2]
    assert np.abs(pixels - expected.astype(int)).mean() < 3


def test_sixteen_bit_grey_keeps_its_shades(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 56 * 56).astype(np.uint16).reshape(56, 56)
    Image.fromarray(ramp).save(tmp_path / "grey.png")
    _, pixels = prepared(tmp_path / "grey.png", tmp_path)
    assert (pixels[:, :, 0] == ramp // 256).all()


def test_a_hundred_megapixels_are_refused_from_the_header(tmp_path: Path) -> None:
    (tmp_path / "huge.png").write_bytes(png_claiming(10_000, 10_000))
    start = time.monotonic()
    with pytest.raises(BadInput, match="10000x10000 pixels") as refused:
        prepared(tmp_path / "huge.png", tmp_path)
    assert refused.value.code == "media.too_large"
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("content", [b"", b"words", b"\x89PNG\r\n\x1a\n", png()[:-40], png()[:200], b"GIF89a"])
def test_what_is_no_whole_image_is_undecodable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(BadInput) as refused:
        prepared(tmp_path / "bad.png", tmp_path)
    assert refused.value.code == "media.undecodable"


def test_the_broken_reference_image(media_directory: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refused:
        prepared(media_directory / "broken.png", tmp_path)
    assert refused.value.code == "media.undecodable"
