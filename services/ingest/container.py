"""A video file with PyAV: opened safely, surveyed without decoding, decoded frame by frame.

Input: a path. Output: frames in display order, the packet count, what is known of the rate. Raises BadInput for what
is no video, or is damaged or cut short, and MemoryError. Must not know which frames are wanted, nor why.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

import av
import av.container
import av.error
import numpy as np

from services.ingest.exchange import DecodeLimits
from shared.errors import BadInput
from shared.media.patches import Pixels
from shared.media.rate import frame_rate

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,asf,mpeg,mpegvideo,mpegts"
"""Demuxers that read exactly the given file. A playlist (hls, concat) would read others, here or elsewhere."""
OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
UNDECODABLE = "not a decodable video (mp4, mov, avi, webm, mkv, mpeg, flv, wmv or 3gpp)"


@dataclass(frozen=True)
class Survey:
    """What demuxing tells. ``packets`` is the number of frames, nearly always: decoding has the last word."""

    packets: int
    announced: tuple[Fraction | None, ...]
    span_seconds: Fraction
    """From the first packet's time to the last one's, 0 where there are no times."""
    tick_seconds: Fraction
    """Unit of the times."""
    width: int
    height: int

    def rate(self, frames: int) -> Fraction:
        """Frames per second of ``frames`` frames over the span; 1 where nothing tells."""
        if frames < 2 or self.span_seconds <= 0:
            return frame_rate(self.announced, None) or Fraction(1)
        blur = self.tick_seconds / self.span_seconds  # both ends are rounded by up to half a tick
        return frame_rate(self.announced, (frames - 1) / self.span_seconds, blur) or Fraction(1)


class VideoFile:
    """One opened video; the stream is the first that is no cover picture."""

    def __init__(self, container: av.container.InputContainer, limits: DecodeLimits) -> None:
        self._container = container
        self._limits = limits
        streams = [stream for stream in container.streams.video if not _is_cover(stream)]
        if not streams:
            raise BadInput("media.undecodable", "has no video stream")
        self._stream: Any = streams[0]  # PyAV's stubs leave out what __getattr__ forwards to the codec context
        if self._stream.codec_context is None:
            raise BadInput("media.undecodable", "its video codec is not supported")
        self._stream.thread_type = "AUTO"
        self._stream.codec_context.thread_count = limits.threads

    def survey(self) -> Survey:
        """Reads every packet, decodes none."""
        count, first, last = 0, None, None
        with _decoding():
            for packet in self._packets():
                count += 1
                time = packet.dts if packet.pts is None else packet.pts
                if time is not None:
                    first = time if first is None else min(first, time)
                    last = time if last is None else max(last, time)
        if count == 0:
            raise BadInput("media.undecodable", "has no video frame")
        tick = Fraction(self._stream.time_base or 0)
        span = Fraction(0) if first is None or last is None else (last - first) * tick
        return Survey(
            packets=count,
            announced=(self._stream.average_rate, self._stream.guessed_rate),
            span_seconds=span,
            tick_seconds=tick,
            width=self._stream.codec_context.width,
            height=self._stream.codec_context.height,
        )

    def frames(self) -> Iterator[av.VideoFrame]:
        """Every decoded frame in display order."""
        with _decoding():
            for packet in self._packets():
                yield from self._bounded(self._stream.decode(packet))
            yield from self._bounded(self._stream.decode(None))

    def check_header(self) -> None:
        """Raises BadInput when the header alone says too large, too long, or more bytes than there are."""
        context, limits = self._stream.codec_context, self._limits
        check_pixels(context.width, context.height, limits.max_pixels)
        if self._container.duration is not None and self._container.duration / av.time_base > 0:
            check_duration(self._container.duration / av.time_base, limits.max_duration_seconds)
        size = self._container.size
        if self._container.format.name.startswith("mov") and any(
            entry.pos + entry.size > size for entry in self._stream.index_entries
        ):
            raise BadInput("media.undecodable", "not a decodable video: the file is cut short")

    def _packets(self) -> Iterator[av.Packet]:
        # An empty packet would make the decoder flush: avi marks dropped frames so, and PyAV the end.
        return (packet for packet in self._container.demux(self._stream) if packet.size)

    def _bounded(self, frames: list[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        for frame in frames:
            check_pixels(frame.width, frame.height, self._limits.max_pixels)
            yield frame


@contextmanager
def open_video(path: Path, limits: DecodeLimits) -> Iterator[VideoFile]:
    with _decoding():
        container = av.open(str(path), options=dict(OPTIONS))
    with container:
        video = VideoFile(container, limits)
        video.check_header()
        yield video


def upright(frame: av.VideoFrame) -> Pixels:
    """RGB pixels [H, W, 3] as displayed. Pixel aspect is ignored, as released."""
    with _decoding():
        pixels = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4))


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        text = f"frames of {width}x{height} pixels; at most {max_pixels / 1e6:g} megapixels are accepted"
        raise BadInput("media.too_large", text)


def check_duration(seconds: float, max_seconds: float) -> None:
    if seconds > max_seconds:
        raise BadInput("media.too_long", f"{seconds:.0f} seconds long; at most {max_seconds:g} are accepted")


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & stream.disposition.__class__.attached_pic)


@contextmanager
def _decoding() -> Iterator[None]:
    try:
        yield
    except av.error.FFmpegError as error:
        _refuse(error)


def _refuse(error: av.error.FFmpegError) -> NoReturn:
    if isinstance(error, MemoryError) or error.errno == errno.ENOMEM:
        raise MemoryError from error
    raise BadInput("media.undecodable", UNDECODABLE) from error
