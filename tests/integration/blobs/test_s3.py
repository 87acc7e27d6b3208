"""The same store on an S3-compatible server (as much of one as a blob store needs, in this process)."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from aiohttp import web

from schemas.blobs import BlobRef
from shared.blobs.lifetimes import Lifetimes
from shared.blobs.store import BlobStore
from shared.errors import Internal, NotFound, Unavailable

DAY = 24 * 3600.0
WRITTEN = "2026-01-01T00:00:00.000Z"
WRITTEN_UNIX_SECONDS = 1_767_225_600.0
WRITTEN_HEADER = "Thu, 01 Jan 2026 00:00:00 GMT"


class Bucket:
    """Objects of one bucket; parts of uploads are hidden until the upload is completed."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}

    async def put(self, request: web.Request) -> web.Response:
        data = await request.read()
        upload = request.query.get("uploadId")
        if upload is None:
            self.objects[request.match_info["key"]] = data
        else:
            self.parts[upload][int(request.query["partNumber"])] = data
        return web.Response(headers={"ETag": '"e"'})

    async def post(self, request: web.Request) -> web.Response:
        key, upload = request.match_info["key"], request.query.get("uploadId")
        await request.read()
        if upload is None:
            upload = f"u{len(self.parts)}"
            self.parts[upload] = {}
            name = "InitiateMultipartUploadResult"
            return xml(f"<{name}><UploadId>{upload}</UploadId></{name}>")
        parts = self.parts.pop(upload)
        self.objects[key] = b"".join(parts[number] for number in sorted(parts))
        return xml("<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>")

    async def get(self, request: web.Request) -> web.Response:
        data = self.objects.get(request.match_info["key"])
        if data is None:
            return web.Response(status=404)
        return web.Response(body=data, headers={"ETag": '"e"', "Last-Modified": WRITTEN_HEADER})

    async def delete(self, request: web.Request) -> web.Response:
        keys = re.findall("<Key>(.*?)</Key>", (await request.read()).decode())
        for key in keys:
            self.objects.pop(key, None)
        deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        return xml(f"<DeleteResult>{deleted}</DeleteResult>")

    async def list(self, request: web.Request) -> web.Response:
        found = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(data)}</Size><ETag>e</ETag>"
            f"<LastModified>{WRITTEN}</LastModified></Contents>"
            for key, data in sorted(self.objects.items())
            if key.startswith(request.query["prefix"])
        )
        return xml(f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>")


def xml(text: str) -> web.Response:
    return web.Response(text=text, content_type="application/xml")


@pytest.fixture
async def bucket(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bucket]:
    made = Bucket()
    application = web.Application(client_max_size=64 * 1024 * 1024)
    application.add_routes(
        [
            web.get("/b", made.list),
            web.get("/b/{key:.+}", made.get),
            web.put("/b/{key:.+}", made.put),
            web.post("/b/{key:.+}", made.post),
            web.post("/b", made.delete),
        ]
    )
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    for name, value in {
        "AWS_ENDPOINT": f"http://127.0.0.1:{runner.addresses[0][1]}",
        "AWS_REGION": "none",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }.items():
        monkeypatch.setenv(name, value)
    yield made
    await runner.cleanup()


@pytest.mark.parametrize("size", [0, 10, 20_000_000])
async def test_put_and_spool_give_back_every_byte(bucket: Bucket, tmp_path: Path, size: int) -> None:
    store = BlobStore.open("s3://b/moontide")
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    async with store.spool() as spool:
        for start in range(0, size, 1_000_000):
            await spool.write(data[start : start + 1_000_000])
    assert list(bucket.objects) == [f"moontide/{spool.ref.key}"]
    assert await store.put(data) == spool.ref
    assert await store.get(spool.ref) == data
    await store.save(spool.ref, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data
    assert bucket.parts == {}


async def test_missing_damaged_deleted(bucket: Bucket) -> None:
    store = BlobStore.open("s3://b/moontide")
    with pytest.raises(NotFound):
        await store.get(BlobRef(key="sha256/" + "0" * 64, size_bytes=1))
    ref = await store.put(b"hello")
    bucket.objects[f"moontide/{ref.key}"] = b"hell0"
    with pytest.raises(Internal):
        await store.get(ref)
    await store.delete(ref)
    await store.delete(ref)
    assert bucket.objects == {}


async def test_records_derived_results_and_expiry(bucket: Bucket) -> None:
    store = BlobStore.open("s3://b/moontide")
    await store.put_record("files", "a", b"1")
    await store.put_derived("ab", b"2")
    ref = await store.put(b"3")
    assert await store.list_records("files") == ["a"]
    assert await store.get_derived("ab") == b"2"
    assert await store.get_derived("cd") is None
    lifetimes = Lifetimes(blob_seconds=3 * DAY, derived_seconds=DAY, record_seconds=2 * DAY)
    report = await store.collect(WRITTEN_UNIX_SECONDS + 2.5 * DAY, lifetimes)
    assert (report.removed, report.freed_bytes) == (2, 2)
    assert list(bucket.objects) == [f"moontide/{ref.key}"]


@pytest.mark.usefixtures("bucket")
async def test_a_bucket_that_is_not_there() -> None:
    store = BlobStore.open("s3://other/moontide")
    with pytest.raises((Unavailable, NotFound)):
        await store.put(b"x")
