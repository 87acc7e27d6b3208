"""What the model saw of one input, and which of it an answer cites.

Input: an answer and the gateway that gave it. Output: the manifest, evidence, and the pictures of cited frames. It must
not know how any of it is shown.
"""

from dataclasses import dataclass, field
from typing import Any

from schemas.media import MediaManifest
from services.cli.answer import Answer
from services.cli.client import GatewayClient
from shared.errors import MoontideError
from shared.language.evidence import Evidence, evidence

MAX_PICTURES = 48
"""Cited frames that are fetched for one report."""


@dataclass(frozen=True)
class Sighting:
    manifest: MediaManifest | None = None
    evidence: tuple[Evidence, ...] = ()
    """``frame`` is a position in the manifest."""
    problem: str = ""
    """Why the manifest is missing, where there should be one."""

    def to_json(self) -> list[dict[str, Any]]:
        """``frame`` counts the frames of the source from 0."""
        if self.manifest is None:
            return []
        return [
            {
                "timestamp_seconds": one.timestamp_seconds,
                "frame": self.manifest.frames[one.frame].index,
                "quote": one.quote,
            }
            for one in self.evidence
        ]


@dataclass(frozen=True)
class Pictures:
    """JPEGs. ``frames``: by position in the manifest."""

    contact_sheet: bytes | None = None
    frames: dict[int, bytes] = field(default_factory=dict)


async def look(client: GatewayClient, answer: Answer) -> Sighting:
    """Never raises: an answer is worth telling without its evidence."""
    key = answer.media[0].manifest if answer.media else ""
    if not key:
        return Sighting()
    try:
        manifest = await client.manifest(key)
    except MoontideError as error:
        return Sighting(problem=f"no evidence: {error.message}")
    return Sighting(manifest, cited(answer.content, manifest))


def cited(text: str, manifest: MediaManifest) -> tuple[Evidence, ...]:
    """Nothing is cited of an image, and no time behind the end of a video."""
    if manifest.kind != "video":
        return ()
    duration = manifest.duration_seconds if manifest.duration_seconds is not None else float("inf")
    found = evidence(text, [frame.timestamp_seconds for frame in manifest.frames])
    return tuple(one for one in found if one.timestamp_seconds <= duration)


async def pictures(client: GatewayClient, key: str, sighting: Sighting) -> Pictures:
    """What a report shows. Raises MoontideError."""
    manifest = sighting.manifest
    if manifest is None:
        return Pictures()
    if manifest.kind == "image":
        return Pictures(frames={0: await client.frame(key, 0)} if manifest.frames else {})
    positions = sorted({one.frame for one in sighting.evidence})[:MAX_PICTURES]
    return Pictures(
        contact_sheet=await client.contact_sheet(key) if manifest.contact_sheet is not None else None,
        frames={position: await client.frame(key, position) for position in positions},
    )
