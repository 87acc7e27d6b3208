"""One clip is one clip in every container and at every size; what is shown is what the model gets."""

from fractions import Fraction
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from schemas.media import MediaOptions
from services.ingest.exchange import Decoded, chunk_file, frame_file, sheet_file
from services.ingest.video import prepare_video
from shared.errors import BadInput
from shared.media.patches import from_patches
from tests.unit.ingest.clips import CONTAINERS, draw, write_clip
from tests.unit.ingest.requests import LIMITS, ignore, request


def prepared(source: Path, folder: Path, **more: object) -> Decoded:
    return prepare_video(request(source, folder / "out", **more), ignore)  # type: ignore[arg-type]


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_gives_the_same(tmp_path: Path, container: str) -> None:
    found = prepared(write_clip(tmp_path / f"clip.{container}", container=container), tmp_path)
    assert (found.width, found.height) == (320, 180)
    assert (found.source_frames, found.source_frames_per_second, found.duration_seconds) == (60, 24.0, 2.5)
    assert [frame.index for frame in found.frames] == [0, 15, 30, 44, 59]
    assert [chunk.timestamp_text for chunk in found.chunks] == ["00:00:00.000", "00:00:02.458"]
    assert [chunk.frames for chunk in found.chunks] == [(0, 1, 2, 3), (4,)]
    assert [chunk.grid for chunk in found.chunks] == [(4, 14, 24), (1, 14, 24)]
    assert found.media_tokens == 2 * 84


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_gives_the_same_at_1440_lines(tmp_path: Path, container: str) -> None:
    """Half the length and twice the sampling, since drawing and encoding take the time here."""
    source = write_clip(tmp_path / f"clip.{container}", container=container, width=2560, height=1440, frames=30)
    found = prepared(source, tmp_path, options=MediaOptions(sample_frames_per_second=4.0))
    assert (found.width, found.height, found.source_frames, found.duration_seconds) == (2560, 1440, 30, 1.25)
    assert [frame.index for frame in found.frames] == [0, 7, 14, 22, 29]
    assert [chunk.timestamp_text for chunk in found.chunks] == ["00:00:00.000", "00:00:01.208"]
    assert [chunk.grid for chunk in found.chunks] == [(4, 50, 86), (1, 50, 86)]
    assert found.media_tokens == 2 * 25 * 43


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(25)])
@pytest.mark.parametrize("container", CONTAINERS)
def test_rates_are_exact_in_every_container(tmp_path: Path, container: str, rate: Fraction) -> None:
    source = write_clip(tmp_path / "clip", container=container, rate=rate, frames=11)
    found = prepared(source, tmp_path)
    assert found.source_frames_per_second == float(rate)
    assert found.source_frames == 11


def test_the_taken_frames_are_the_ones_drawn(tmp_path: Path) -> None:
    found = prepared(write_clip(tmp_path / "clip.mp4"), tmp_path)
    patches = np.fromfile(chunk_file(tmp_path / "out", 0), np.uint8).reshape(-1, 3, 14, 14)
    pictures = from_patches(patches, found.chunks[0].grid)
    for position, picture in zip(found.chunks[0].frames, pictures, strict=True):
        expected = draw(found.frames[position].index, 320, 180).astype(int)
        assert np.abs(picture[:180, :320] - expected).mean() < 6
        assert not picture[180:].any()
        assert not picture[:, 320:].any()


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_a_rotated_video_is_upright(tmp_path: Path, rotation: int) -> None:
    found = prepared(write_clip(tmp_path / "clip.mp4", rotation=rotation, frames=8), tmp_path)
    expected = np.rot90(draw(0, 320, 180), rotation // 90).astype(int)
    assert (found.height, found.width) == expected.shape[:2]
    with Image.open(frame_file(tmp_path / "out", 0)) as jpeg:
        assert np.abs(np.asarray(jpeg) - expected).mean() < 8


def test_scene_cuts_and_contact_sheet_are_kept_beside(tmp_path: Path) -> None:
    found = prepared(write_clip(tmp_path / "clip.mp4"), tmp_path)
    assert found.scene_cuts_seconds == pytest.approx([16 / 24, 32 / 24, 48 / 24], abs=1 / 8)
    with Image.open(sheet_file(tmp_path / "out")) as sheet:
        assert sheet.size == (5 * 192, 108 + 14)


def test_a_frame_limit_holds(tmp_path: Path) -> None:
    found = prepared(write_clip(tmp_path / "clip.mp4"), tmp_path, options=MediaOptions(max_frames=3))
    assert [frame.index for frame in found.frames] == [0, 30, 59]


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ({"max_pixels": 320 * 180 - 1}, "media.too_large"),
        ({"max_duration_seconds": 2.0}, "media.too_long"),
        ({"max_media_tokens": 167}, "media.too_long"),
    ],
)
def test_limits_are_told_apart(tmp_path: Path, limit: dict[str, float], code: str) -> None:
    with pytest.raises(BadInput) as refused:
        prepared(write_clip(tmp_path / "clip.mp4"), tmp_path, limits=msgspec.structs.replace(LIMITS, **limit))
    assert refused.value.code == code


@pytest.mark.parametrize("kept", [0.5, 0.97])
@pytest.mark.parametrize("options", [{}, {"movflags": "faststart"}])
def test_a_truncated_mp4_is_undecodable(tmp_path: Path, options: dict[str, str], kept: float) -> None:
    source = write_clip(tmp_path / "clip.mp4", options=options)
    data = source.read_bytes()
    source.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(BadInput) as refused:
        prepared(source, tmp_path)
    assert refused.value.code == "media.undecodable"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"just words\n" * 50,
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile other.mp4\n",
    ],
)
def test_what_is_no_video_is_refused_and_playlists_open_nothing(tmp_path: Path, content: bytes) -> None:
    write_clip(tmp_path / "other.mp4", frames=8)
    source = tmp_path / "clip.mp4"
    source.write_bytes(content)
    with pytest.raises(BadInput) as refused:
        prepared(source, tmp_path)
    assert refused.value.code == "media.undecodable"


def test_the_reference_clip(media_directory: Path, tmp_path: Path) -> None:
    found = prepared(media_directory / "nasa_13013.mp4", tmp_path)
    assert (len(found.frames), len(found.chunks), found.media_tokens) == (26, 7, 588)
    assert found.chunks[4].timestamp_text == "00:00:08.279"
