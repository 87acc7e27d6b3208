"""Uploads: streamed to the blob store, visible to their principal only, usable in chats by id."""

import asyncio
import hashlib
import resource
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from schemas.blobs import BlobRef
from schemas.chat import MediaPart


def form(data: bytes, purpose: str | None = "video", name: str = "clip.mp4", **fields: str) -> aiohttp.FormData:
    made = aiohttp.FormData()
    if purpose is not None:
        made.add_field("purpose", purpose)
    made.add_field("file", data, filename=name, content_type="application/octet-stream")
    for field, value in fields.items():
        made.add_field(field, value)
    return made


async def upload(stand: Any, data: bytes = b"bytes", **kwargs: Any) -> dict[str, Any]:
    async with stand.http.post(f"{stand.url}/v1/files", data=form(data, **kwargs)) as response:
        assert response.status == 200
        return await response.json()


async def error_of(response: aiohttp.ClientResponse) -> dict[str, Any]:
    return (await response.json())["error"]


async def test_the_openai_client_uploads_lists_reads_and_deletes(gateway: Any) -> None:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as api:
        made = await api.files.create(file=("a b.png", b"\x89PNG"), purpose="vision")
        assert (made.filename, made.bytes, made.purpose, made.status) == ("a b.png", 4, "vision", "processed")
        other = await api.files.create(file=("b.txt", b"text"), purpose="user_data")
        assert {item.id for item in (await api.files.list()).data} == {made.id, other.id}
        assert [item.id for item in (await api.files.list(purpose="vision")).data] == [made.id]
        assert (await api.files.retrieve(made.id)) == made
        assert (await api.files.content(made.id)).read() == b"\x89PNG"
        assert (await api.files.delete(made.id)).deleted
        with pytest.raises(openai.NotFoundError):
            await api.files.retrieve(made.id)
        with pytest.raises(openai.NotFoundError):
            await api.files.content(made.id)


async def test_deleting_removes_bytes_that_nobody_else_uploaded(gateway: Any, tmp_path: Path) -> None:
    one, two = await upload(gateway), await upload(gateway, name="same.mp4")
    stored = tmp_path / "blobs" / "sha256"
    for made, left in ((one, 1), (two, 0)):
        async with gateway.http.delete(f"{gateway.url}/v1/files/{made['id']}") as response:
            assert response.status == 200
        assert len(files_in(stored)) == left


@pytest.mark.parametrize("order", ["first", "second"])
async def test_the_last_of_equal_files_takes_the_bytes_along(gateway: Any, tmp_path: Path, order: str) -> None:
    made = [await upload(gateway) for _ in range(2)]
    for item in made if order == "first" else reversed(made):
        assert len(files_in(tmp_path / "blobs" / "sha256")) == 1
        await gateway.http.delete(f"{gateway.url}/v1/files/{item['id']}")
    assert files_in(tmp_path / "blobs" / "sha256") == []


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("others", [0, 1])
async def test_deleting_a_file_takes_nothing_from_others(gateway: Any, before: bool, others: int) -> None:
    """A chat or a run, maybe of another tenant, may hold the same bytes: who can guess them must not remove them."""
    if before:
        await gateway.blobs.put(b"bytes")
    made = [await upload(gateway) for _ in range(1 + others)]
    if not before:
        await gateway.blobs.put(b"bytes")
    for item in made:
        await gateway.http.delete(f"{gateway.url}/v1/files/{item['id']}")
    reference = BlobRef(key=f"sha256/{hashlib.sha256(b'bytes').hexdigest()}", size_bytes=5)
    assert await gateway.blobs.get(reference) == b"bytes"


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@pytest.mark.parametrize("template", ["ms://{}", "{}"])
@pytest.mark.parametrize("as_object", [True, False])
async def test_an_uploaded_file_in_a_chat(gateway: Any, template: str, as_object: bool) -> None:
    made = await upload(gateway, b"video bytes")
    url = template.format(made["id"])
    content = [{"type": "video_url", "video_url": {"url": url} if as_object else url}, {"type": "text", "text": "?"}]
    response = await gateway.chat(messages=[{"role": "user", "content": content}])
    assert response.status == 200
    part = gateway.answer.messages()[0].content[0]
    assert isinstance(part, MediaPart)
    assert (part.kind, part.name) == ("video", "clip.mp4")
    assert await gateway.blobs.get(part.source) == b"video bytes"


@pytest.mark.parametrize(
    ("purpose", "name", "kind"),
    [("image", "x.bin", "image"), ("user_data", "x.MKV", "video"), ("vision", "x.webp", "image")],
)
async def test_a_file_part_knows_its_kind(gateway: Any, purpose: str, name: str, kind: str) -> None:
    made = await upload(gateway, purpose=purpose, name=name)
    content = [{"type": "file", "file": {"file_id": made["id"]}}]
    assert (await gateway.chat(messages=[{"role": "user", "content": content}])).status == 200
    assert gateway.answer.messages()[0].content[0].kind == kind


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "image_url", "image_url": "http://x/y.png"}, "messages[0].content[0].image_url"),
        ({"type": "image_url", "image_url": {"url": "https://x/y.png"}}, "messages[0].content[0].image_url.url"),
        ({"type": "video_url", "video_url": "data:video/mp4,raw"}, "messages[0].content[0].video_url"),
        ({"type": "video_url", "video_url": "data:video/mp4;base64,***"}, "messages[0].content[0].video_url"),
        ({"type": "video_url", "video_url": "data:video/mp4;base64,"}, "messages[0].content[0].video_url"),
        ({"type": "image_url", "image_url": "ms://file-0"}, "messages[0].content[0].image_url"),
        ({"type": "image_url", "image_url": "../../etc/passwd"}, "messages[0].content[0].image_url"),
        ({"type": "file", "file": {"file_id": "file-0"}}, "messages[0].content[0].file.file_id"),
    ],
)
async def test_media_that_cannot_be_used_are_named(gateway: Any, part: dict[str, Any], param: str) -> None:
    response = await gateway.chat(messages=[{"role": "user", "content": [part]}])
    error = await error_of(response)
    assert (response.status, error["param"]) == (400, param)
    assert param in error["message"]
    assert gateway.events() == []


async def test_a_file_that_is_no_medium_is_refused_as_one(gateway: Any) -> None:
    made = await upload(gateway, purpose="user_data", name="notes.txt")
    content = [{"type": "file", "file": {"file_id": made["id"]}}]
    response = await gateway.chat(messages=[{"role": "user", "content": content}])
    assert response.status == 400
    assert "notes.txt" in (await error_of(response))["message"]


async def test_a_data_uri_is_stored_and_named_by_its_place(gateway: Any) -> None:
    content = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]
    assert (await gateway.chat(messages=[{"role": "user", "content": content}])).status == 200
    part = gateway.answer.messages()[0].content[1]
    assert (part.kind, part.name) == ("image", "messages[0].content[1]")
    assert await gateway.blobs.get(part.source) == b"hi"


async def test_many_long_messages_travel_by_reference(gateway: Any) -> None:
    messages = [{"role": "user", "content": str(index) * 100_000} for index in range(8)]
    assert (await gateway.chat(messages=messages)).status == 200
    payloads = gateway.answer.requests[0].messages
    inline = [payload for payload in payloads if isinstance(payload, bytes)]
    assert sum(map(len, inline)) <= 256 * 1024
    assert len(inline) == 2
    assert len(payloads) == 8


@pytest.mark.parametrize(
    ("make", "status", "param"),
    [
        (lambda: form(b"x", purpose=None), 400, "purpose"),
        (lambda: form(b"x", purpose="fun"), 400, "purpose"),
        (lambda: form(b""), 400, "file"),
        (lambda: form(b"x", extra="y" * 5000), 400, "extra"),
        (lambda: form(b"x" * 2000), 413, "file"),
        (lambda: form(b"x" * 500_000), 413, "file"),
        (lambda: {"purpose": "video"}, 400, None),
        (lambda: b"raw", 400, None),
    ],
)
async def test_a_bad_upload_names_its_field(
    make_gateway: Any, tmp_path: Path, make: Any, status: int, param: str | None
) -> None:
    async with (
        make_gateway(file_max_bytes=1000) as stand,
        stand.http.post(f"{stand.url}/v1/files", data=make()) as response,
    ):
        assert (response.status, (await error_of(response))["param"]) == (status, param)
        assert await (await stand.http.get(f"{stand.url}/v1/files")).json() == {
            "object": "list",
            "data": [],
            "has_more": False,
        }


async def test_a_form_that_is_cut_short_is_refused(gateway: Any) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    for body in (
        b"",
        b"--B\r\n",
        b"--C\r\n\r\n--C--",
        b'--B\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc',
    ):
        async with gateway.http.post(f"{gateway.url}/v1/files", data=body, headers=headers) as response:
            assert response.status == 400, body


@pytest.mark.parametrize("name", ["../../etc/passwd", "C:\\x\\passwd", "pass\u200bwd", "passwd" * 100])
async def test_file_names_are_cleaned(gateway: Any, name: str) -> None:
    cleaned = (await upload(gateway, name=name))["filename"]
    assert cleaned.endswith("passwd")
    assert len(cleaned) <= 255


async def test_an_upload_of_fifty_megabytes_stays_out_of_memory(gateway: Any) -> None:
    piece = bytes(range(256)) * 4096

    async def pieces() -> Any:
        for _ in range(50):
            yield piece

    before = peak_bytes()
    made = aiohttp.FormData()
    made.add_field("purpose", "video")
    made.add_field("file", aiohttp.AsyncIterablePayload(pieces()), filename="big.mp4")
    async with gateway.http.post(f"{gateway.url}/v1/files", data=made) as response:
        body = await response.json()
    assert body["bytes"] == 50 * len(piece)
    received = 0
    async with gateway.http.get(f"{gateway.url}/v1/files/{body['id']}/content") as response:
        async for chunk in response.content.iter_any():
            received += len(chunk)
    assert received == body["bytes"]
    assert peak_bytes() - before < 40 * 1024 * 1024


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def test_an_interrupted_upload_leaves_nothing(gateway: Any, tmp_path: Path) -> None:
    sent = asyncio.Event()

    async def pieces() -> Any:
        yield bytes(1_000_000)
        sent.set()
        await asyncio.Event().wait()

    made = aiohttp.FormData()
    made.add_field("purpose", "video")
    made.add_field("file", aiohttp.AsyncIterablePayload(pieces()), filename="half.mp4")
    task = asyncio.create_task(gateway.http.post(f"{gateway.url}/v1/files", data=made))
    await sent.wait()
    task.cancel()
    await asyncio.wait({task})
    await gateway.stop()
    assert [path for path in everything_in(tmp_path / "blobs") if path.is_file()] == []


def everything_in(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


async def test_files_are_visible_only_to_their_principal(make_gateway: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# people\nalice-key\n\nbob-key\n")
    async with make_gateway(keys_file=keys) as stand:
        alice, bob = ({"Authorization": f"Bearer {name}-key"} for name in ("alice", "bob"))
        async with stand.http.post(f"{stand.url}/v1/files", data=form(b"x"), headers=alice) as response:
            file_id = (await response.json())["id"]
        for path in (f"/{file_id}", f"/{file_id}/content"):
            assert (await stand.http.get(f"{stand.url}/v1/files{path}", headers=alice)).status == 200
            assert (await stand.http.get(f"{stand.url}/v1/files{path}", headers=bob)).status == 404
        assert (await stand.http.delete(f"{stand.url}/v1/files/{file_id}", headers=bob)).status == 404
        listed = await (await stand.http.get(f"{stand.url}/v1/files", headers=bob)).json()
        assert listed["data"] == []
        content = [{"type": "video_url", "video_url": f"ms://{file_id}"}]
        body = {"model": "tiny", "messages": [{"role": "user", "content": content}]}
        for headers, status in ((alice, 200), (bob, 400)):
            response = await stand.http.post(f"{stand.url}/v1/chat/completions", json=body, headers=headers)
            assert response.status == status
