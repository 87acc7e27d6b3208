"""Which media a tenant has had answers about: a record per tenant and manifest, written when the answer ends.

Input: the summaries of a finished chat. Output: manifests, and their pictures by position, for that tenant alone.
It must not know HTTP.
"""

import logging
import re
from collections.abc import Iterable

import msgspec

from schemas import codec
from schemas.blobs import BlobRef
from schemas.chat import MediaSummary
from schemas.media import MediaManifest
from schemas.request import Principal
from shared.blobs.store import BlobStore
from shared.errors import Internal, MoontideError, NotFound

log = logging.getLogger(__name__)

_KEY = re.compile(r"sha256/([0-9a-f]{64})")


class SeenMedia:
    """Methods that take a key raise NotFound(``media.not_found``), also for what others have asked about."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    async def remember(self, principal: Principal, media: Iterable[MediaSummary]) -> None:
        """A record that cannot be written costs pictures, not the answer."""
        for reference in {summary.manifest.key: summary.manifest for summary in media}.values():
            match = _KEY.fullmatch(reference.key)
            if match is None:
                continue
            try:
                await self._blobs.put_record(_kind(principal), match[1], codec.encode_json(reference))
            except MoontideError as error:
                log.warning("media not remembered", extra={"code": error.code})

    async def manifest(self, principal: Principal, key: str) -> MediaManifest:
        match = _KEY.fullmatch(key)
        record = await self._blobs.get_record(_kind(principal), match[1]) if match is not None else None
        if record is None:
            raise _not_found("no such media")
        data = await self._blobs.get(codec.decode_json(record, BlobRef))
        try:
            return codec.decode(data, MediaManifest)
        except msgspec.MsgspecError as error:
            raise Internal("media.manifest", "a manifest cannot be read") from error

    async def frame(self, principal: Principal, key: str, position: int) -> bytes:
        """JPEG of the frame at ``position`` of the manifest's frames."""
        frames = (await self.manifest(principal, key)).frames
        if position >= len(frames):
            raise _not_found(f"there are {len(frames)} frames")
        return await self._blobs.get(frames[position].jpeg)

    async def contact_sheet(self, principal: Principal, key: str) -> bytes:
        """JPEG; only videos have one."""
        sheet = (await self.manifest(principal, key)).contact_sheet
        if sheet is None:
            raise _not_found("there is no contact sheet")
        return await self._blobs.get(sheet)


def _kind(principal: Principal) -> str:
    return f"seen-media.{principal.tenant}"


def _not_found(message: str) -> NotFound:
    return NotFound("media.not_found", message, param="manifest")
