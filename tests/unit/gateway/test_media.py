"""What the model saw: for whoever asked about it, and no other blob."""

from typing import Any

import msgspec

from schemas import codec
from schemas.blobs import BlobRef
from schemas.chat import ChatFinished
from schemas.media import MediaFrame, MediaManifest
from tests.unit.gateway.conftest import FINISHED, MODEL

JPEGS = (b"\xff\xd8\xffone", b"\xff\xd8\xfftwo")
SHEET = b"\xff\xd8\xffsheet"


async def stored(stand: Any) -> ChatFinished:
    """The end of an answer about a video of two frames, whose parts are in the store."""
    references = [await stand.blobs.put(data) for data in JPEGS]
    frames = [MediaFrame(index=n * 30, timestamp_seconds=float(n), jpeg=ref) for n, ref in enumerate(references)]
    manifest = MediaManifest(
        kind="video", width=4, height=3, duration_seconds=2.0, frames=tuple(frames), chunks=(), media_tokens=0,
        contact_sheet=await stand.blobs.put(SHEET),
    )  # fmt: skip
    reference = await stand.blobs.put(codec.encode(manifest))
    return msgspec.structs.replace(FINISHED, media=(msgspec.structs.replace(FINISHED.media[0], manifest=reference),))


async def get(stand: Any, path: str, key: str | None = None) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with stand.http.get(f"{stand.url}/v1/media/{path}", headers=headers) as response:
        return response.status, await response.read()


async def test_a_finished_answer_shows_what_was_seen(gateway: Any) -> None:
    finished = await stored(gateway)
    key = finished.media[0].manifest.key
    gateway.answer.script = (finished,)
    assert (await get(gateway, key))[0] == 404
    answer = await (await gateway.chat()).json()
    assert answer["moontide"]["media"][0]["manifest"] == key
    status, manifest = await get(gateway, key)
    assert status == 200
    assert [frame.index for frame in codec.decode_json(manifest, MediaManifest).frames] == [0, 30]
    assert [await get(gateway, f"{key}/frames/{n}.jpg") for n in (0, 1)] == [(200, data) for data in JPEGS]
    assert await get(gateway, f"{key}/contact-sheet.jpg") == (200, SHEET)
    assert (await get(gateway, f"{key}/frames/2.jpg"))[0] == 404


async def test_no_other_blob_and_no_other_principal(make_gateway: Any, tmp_path: Any) -> None:
    keys = tmp_path / "keys"
    keys.write_text("key-one-1234567890\nkey-two-1234567890\n")
    async with make_gateway(keys_file=keys) as stand:
        finished = await stored(stand)
        key = finished.media[0].manifest.key
        stand.answer.script = (finished,)
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True}
        headers = {"Authorization": "Bearer key-one-1234567890"}
        async with stand.http.post(f"{stand.url}/v1/chat/completions", json=body, headers=headers) as response:
            assert b"[DONE]" in await response.read()
        assert (await get(stand, key, "key-one-1234567890"))[0] == 200
        assert (await get(stand, key, "key-two-1234567890"))[0] == 404
        assert (await get(stand, key))[0] == 401
        secret: BlobRef = await stand.blobs.put(b"somebody's file")
        assert (await get(stand, secret.key, "key-one-1234567890"))[0] == 404
