"""Patches on disk, byte for byte, against a plain restatement of the released preprocessing."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from services.ingest.exchange import chunk_file
from services.ingest.image import prepare_image
from services.ingest.video import prepare_video
from tests.unit.ingest.clips import write_clip
from tests.unit.ingest.requests import ignore, request


def released_resize(pictures: list[Image.Image], limit: int) -> np.ndarray:
    """navit_resize_image of the first picture, applied to all: [T, H, W, 3]."""
    width, height = pictures[0].size
    scale = min(
        1.0,
        (limit / (max(1.0, width // 14) * max(1.0, height // 14))) ** 0.5,
        512 * 14 / width,
        512 * 14 / height,
    )
    new = (min(max(1, int(width * scale)), 512 * 14), min(max(1, int(height * scale)), 512 * 14))
    full = np.zeros((len(pictures), new[1] + -new[1] % 28, new[0] + -new[0] % 28, 3), np.uint8)
    for position, picture in enumerate(pictures):
        full[position, : new[1], : new[0]] = np.asarray(picture.resize(new, resample=Image.Resampling.BICUBIC))
    return full


def released_patches(full: np.ndarray) -> bytes:
    squares = []
    for picture in full:
        for top in range(0, picture.shape[0], 14):
            for left in range(0, picture.shape[1], 14):
                squares.append(picture[top : top + 14, left : left + 14].transpose(2, 0, 1))
    return np.stack(squares).tobytes()


def released_chunks(path: Path, rate: float) -> list[bytes]:
    with av.open(str(path)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    count = max(round(len(frames) * min(2.0, rate) / rate), 1)
    chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, count).round().astype(int)]
    groups = [chosen[first : first + 4] for first in range(0, count, 4)]
    return [released_patches(released_resize(group, 4096)) for group in groups]


def check_video(path: Path, output: Path, rate: float) -> None:
    found = prepare_video(request(path, output), ignore)
    expected = released_chunks(path, rate)
    assert len(found.chunks) == len(expected)
    for position, data in enumerate(expected):
        assert chunk_file(output, position).read_bytes() == data


def test_the_reference_clip(media_directory: Path, tmp_path: Path) -> None:
    check_video(media_directory / "nasa_13013.mp4", tmp_path / "out", 25.0)


def test_a_large_clip(tmp_path: Path) -> None:
    check_video(write_clip(tmp_path / "clip.mp4", width=2560, height=1440, frames=30), tmp_path / "out", 24.0)


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "CMYK"])
def test_images_of_every_mode(tmp_path: Path, mode: str) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (301, 517, 4), dtype=np.uint8)
    path = tmp_path / ("picture.jpg" if mode == "CMYK" else "picture.png")
    Image.fromarray(noise).convert("RGB" if mode == "CMYK" else "RGBA").convert(mode).save(path)
    prepare_image(request(path, tmp_path / "out", "image"))
    with Image.open(path) as image:
        expected = released_patches(released_resize([image.convert("RGB")], 16384))
    assert chunk_file(tmp_path / "out", 0).read_bytes() == expected


def test_an_image_over_the_budget(tmp_path: Path) -> None:
    noise = np.random.default_rng(4).integers(0, 256, (2100, 2600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "picture.png", compress_level=0)
    prepare_image(request(tmp_path / "picture.png", tmp_path / "out", "image"))
    expected = released_patches(released_resize([Image.fromarray(noise)], 16384))
    assert chunk_file(tmp_path / "out", 0).read_bytes() == expected


def test_the_transparent_reference_image(media_directory: Path, tmp_path: Path) -> None:
    prepare_image(request(media_directory / "rgba.png", tmp_path / "out", "image"))
    with Image.open(media_directory / "rgba.png") as image:
        expected = released_patches(released_resize([image.convert("RGB")], 16384))
    assert chunk_file(tmp_path / "out", 0).read_bytes() == expected
