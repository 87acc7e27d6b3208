"""One image to one chunk, with Pillow: png, jpeg, webp, gif (its first frame).

Input: a file. Output: patches, a small JPEG and the numbers of the manifest. Size is checked on the header, before
anything is decoded. Raises BadInput for what is no such image; the caller names the input.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from services.ingest.exchange import Decoded, DecodedChunk, DecodedFrame, DecodeRequest, chunk_file, frame_file
from services.ingest.pictures import model_picture, save_jpeg
from shared.errors import BadInput
from shared.media.geometry import fit
from shared.media.patches import to_patches

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")


def prepare_image(request: DecodeRequest) -> Decoded:
    """Patches and JPEG into the output folder. Raises BadInput (``media.undecodable``, ``media.too_large``)."""
    with _decoding():
        picture = _upright(Path(request.source), request.limits.max_pixels)
    options, output = request.options, Path(request.output)
    geometry = fit(picture.width, picture.height, options.patch_limit_image, options.patch_limit_one_side)
    patches = to_patches(model_picture(picture, geometry)[None])
    chunk_file(output, 0).write_bytes(patches.tobytes())
    save_jpeg(picture, frame_file(output, 0))
    chunk = DecodedChunk(
        timestamp_seconds=0.0,
        timestamp_text="",
        grid=(1, geometry.grid_height, geometry.grid_width),
        tokens=geometry.tokens,
        frames=(0,),
    )
    return Decoded(
        width=picture.width,
        height=picture.height,
        frames=(DecodedFrame(index=0, timestamp_seconds=0.0),),
        chunks=(chunk,),
    )


def _upright(path: Path, max_pixels: int) -> Image.Image:
    """The image in RGB as it is to be displayed."""
    with Image.open(path, formats=FORMATS) as image:
        if image.width * image.height > max_pixels:
            raise BadInput("media.too_large", _too_large(image.width, image.height, max_pixels))
        turned = ImageOps.exif_transpose(image)
        return _eight_bits(turned).convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey keeps its upper byte: a plain conversion would clip it to white."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.clip(np.asarray(image), 0, 65535) // 256).astype(np.uint8))


def _too_large(width: int, height: int, max_pixels: int) -> str:
    return f"{width}x{height} pixels; at most {max_pixels / 1e6:g} megapixels are accepted"


@contextmanager
def _decoding() -> Iterator[None]:
    """Pillow's parsers raise whatever they stumble over: all of it means that the file is no good image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (BadInput, MemoryError):
            raise
        except Image.DecompressionBombError as error:
            raise BadInput("media.too_large", "more pixels than are accepted") from error
        except Exception as error:
            raise BadInput("media.undecodable", "not a decodable image (png, jpeg, webp or gif)") from error
