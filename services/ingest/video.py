"""One video to chunks of patches, small JPEGs, a contact sheet and scene cuts.

Input: a file. Output: result files and the numbers of the manifest. Chosen frames depend on the number of decoded
frames, so packets are counted first; where decoding shows another number, it is done once more with that one.
Raises BadInput; the caller names the input. Only chosen frames are ever converted at full size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image

from schemas.media import MediaOptions
from services.ingest.container import UNDECODABLE, Survey, check_duration, open_video, upright
from services.ingest.cuts import SMALL_HEIGHT, SMALL_WIDTH, CutFinder
from services.ingest.exchange import (
    Decoded,
    DecodedChunk,
    DecodedFrame,
    DecodeRequest,
    chunk_file,
    frame_file,
    sheet_file,
)
from services.ingest.pictures import ContactSheet, model_picture, save_jpeg
from shared.errors import BadInput
from shared.media.chunks import chunk_positions, timestamp_text
from shared.media.frames import sample_indices
from shared.media.geometry import PatchGeometry, fit
from shared.media.patches import Pixels, to_patches

Report = Callable[[str], None]
"""Takes the stage of the work, in words."""

REPORT_EVERY_FRAMES = 64
MAX_DECODES = 2


@dataclass(frozen=True)
class FramePlan:
    """Which decoded frames are taken if there are ``source_frames`` of them, and in which groups."""

    source_frames: int
    frames_per_second: float
    indices: tuple[int, ...]
    chunks: tuple[tuple[int, ...], ...]

    @property
    def duration_seconds(self) -> float:
        return self.source_frames / self.frames_per_second

    def seconds(self, position: int) -> float:
        """Time of a taken frame, as released: its index over the rate."""
        return self.indices[position] / self.frames_per_second


def plan_frames(survey: Survey, source_frames: int, options: MediaOptions) -> FramePlan:
    rate = float(survey.rate(source_frames))
    indices = sample_indices(source_frames, rate, options.sample_frames_per_second, options.max_frames)
    return FramePlan(source_frames, rate, indices, tuple(chunk_positions(len(indices), options.chunk_frames)))


def prepare_video(request: DecodeRequest, report: Report) -> Decoded:
    """Result files into the output folder. Raises BadInput (``media.undecodable``, ``.too_large``, ``.too_long``)."""
    report("counting frames")
    with open_video(Path(request.source), request.limits) as video:
        survey = video.survey()
    source_frames = survey.packets
    for _ in range(MAX_DECODES):
        plan = plan_frames(survey, source_frames, request.options)
        check_duration(plan.duration_seconds, request.limits.max_duration_seconds)
        take = VideoTake(request, plan)
        source_frames = take.run(report)
        if source_frames == plan.source_frames:
            return take.decoded()
        if source_frames == 0:
            break
    raise BadInput("media.undecodable", UNDECODABLE)


class VideoTake:
    """One pass over the video with a plan: takes the planned frames, and looks at others for scene cuts."""

    def __init__(self, request: DecodeRequest, plan: FramePlan) -> None:
        self._request = request
        self._plan = plan
        self._output = Path(request.output)
        self._cuts = CutFinder(plan.frames_per_second)
        self._sheet = ContactSheet(len(plan.indices))
        self._shrink = VideoReformatter()
        self._size = (0, 0)
        self._taken = 0
        self._geometry: PatchGeometry | None = None
        self._pictures: list[Pixels] = []
        self._chunks: list[DecodedChunk] = []

    def run(self, report: Report) -> int:
        """Decodes everything; the number of decoded frames."""
        seen = 0
        with open_video(Path(self._request.source), self._request.limits) as video:
            for frame in video.frames():
                self._see(seen, frame)
                if seen % REPORT_EVERY_FRAMES == 0:
                    report(f"decoding frame {seen} of {self._plan.source_frames}")
                seen += 1
        return seen

    def decoded(self) -> Decoded:
        """The manifest's numbers, once ``run`` has seen as many frames as planned."""
        self._sheet.save(sheet_file(self._output))
        plan = self._plan
        return Decoded(
            width=self._size[0],
            height=self._size[1],
            duration_seconds=plan.duration_seconds,
            source_frames_per_second=plan.frames_per_second,
            source_frames=plan.source_frames,
            frames=tuple(
                DecodedFrame(index=index, timestamp_seconds=plan.seconds(position))
                for position, index in enumerate(plan.indices)
            ),
            chunks=tuple(self._chunks),
            scene_cuts_seconds=self._cuts.cuts(),
            contact_sheet=True,
        )

    def _see(self, index: int, frame: av.VideoFrame) -> None:
        if self._cuts.wants(index):
            small = self._shrink.reformat(frame, SMALL_WIDTH, SMALL_HEIGHT, "rgb24", interpolation="AREA")
            self._cuts.see(np.asarray(small.to_ndarray(), np.uint8), index / self._plan.frames_per_second)
        if self._taken < len(self._plan.indices) and index == self._plan.indices[self._taken]:
            self._take(Image.fromarray(upright(frame)))

    def _take(self, picture: Image.Image) -> None:
        position = self._taken
        self._taken += 1
        if position == 0:
            self._size = picture.size
        save_jpeg(picture, frame_file(self._output, position))
        self._sheet.add(position, picture, self._plan.seconds(position))
        if self._geometry is None:
            self._geometry = self._fit(picture)
        self._pictures.append(model_picture(picture, self._geometry))
        if position == self._plan.chunks[len(self._chunks)][-1]:
            self._finish_chunk(self._geometry)

    def _fit(self, picture: Image.Image) -> PatchGeometry:
        """The first frame of a chunk decides for all of them."""
        options = self._request.options
        geometry = fit(picture.width, picture.height, options.patch_limit_frame, options.patch_limit_one_side)
        tokens = geometry.tokens * len(self._plan.chunks)
        if tokens > self._request.limits.max_media_tokens:
            limit = self._request.limits.max_media_tokens
            raise BadInput("media.too_long", f"needs {tokens} media tokens; at most {limit} are accepted")
        return geometry

    def _finish_chunk(self, geometry: PatchGeometry) -> None:
        frames = self._plan.chunks[len(self._chunks)]
        seconds = self._plan.seconds(frames[0])
        patches = to_patches(np.stack(self._pictures))
        chunk_file(self._output, len(self._chunks)).write_bytes(patches.tobytes())
        self._chunks.append(
            DecodedChunk(
                timestamp_seconds=seconds,
                timestamp_text=timestamp_text(seconds),
                grid=(len(frames), geometry.grid_height, geometry.grid_width),
                tokens=geometry.tokens,
                frames=frames,
            )
        )
        self._geometry = None
        self._pictures = []
