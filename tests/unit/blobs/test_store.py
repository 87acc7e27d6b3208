"""What the blob store promises: what was put is what is got, or an error; and nothing half written is ever visible."""

import asyncio
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.blobs import INLINE_MAX_BYTES, BlobRef
from shared.blobs.lifetimes import Lifetimes
from shared.blobs.store import BlobStore
from shared.errors import BadInput, Internal, NotFound, Unavailable

DAY = 24 * 3600.0


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore.open((tmp_path / "blobs").as_uri())


def visible(tmp_path: Path, folder: str = "blobs") -> list[str]:
    root = tmp_path / folder
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def blob_file(tmp_path: Path, ref: BlobRef) -> Path:
    return tmp_path / "blobs" / ref.key


@given(pieces=st.lists(st.binary(max_size=2000), max_size=8))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_put_and_spool_agree_and_give_back_every_byte(store: BlobStore, pieces: list[bytes]) -> None:
    data = b"".join(pieces)

    async def scenario() -> None:
        ref = await store.put(data)
        async with store.spool() as spool:
            for piece in pieces:
                await spool.write(piece)
        assert spool.ref == ref == BlobRef(key=f"sha256/{hashlib.sha256(data).hexdigest()}", size_bytes=len(data))
        assert await store.get(ref) == data
        assert b"".join([chunk async for chunk in store.stream(ref)]) == data

    asyncio.run(scenario())


async def test_a_path_with_spaces_and_umlauts(tmp_path: Path) -> None:
    store = BlobStore.open((tmp_path / "with späce").as_uri())
    ref = await store.put(b"x")
    assert (tmp_path / "with späce" / ref.key).read_bytes() == b"x"


async def test_an_unknown_blob_is_not_found(store: BlobStore) -> None:
    with pytest.raises(NotFound) as caught:
        await store.get(BlobRef(key="sha256/" + "0" * 64, size_bytes=1))
    assert caught.value.code == "blob.not_found"


@pytest.mark.parametrize("key", ["../../etc/passwd", "sha256/../x", "sha256/" + "G" * 64, "derived/" + "0" * 64])
async def test_a_key_that_is_no_hash_is_not_followed(store: BlobStore, key: str) -> None:
    with pytest.raises(NotFound):
        await store.get(BlobRef(key=key, size_bytes=1))
    with pytest.raises(NotFound):
        await store.delete(BlobRef(key=key, size_bytes=1))


@pytest.mark.parametrize("damage", [b"", b"hell", b"hellO", b"hello!"])
async def test_a_damaged_blob_is_noticed_and_putting_again_repairs_it(
    store: BlobStore, tmp_path: Path, damage: bytes
) -> None:
    ref = await store.put(b"hello")
    blob_file(tmp_path, ref).write_bytes(damage)
    with pytest.raises(Internal) as caught:
        await store.get(ref)
    assert caught.value.code == "blob.damaged"
    with pytest.raises(Internal):
        await store.save(ref, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    await store.put(b"hello")
    assert await store.get(ref) == b"hello"


async def test_concurrent_writers_of_the_same_content_leave_one_blob(store: BlobStore, tmp_path: Path) -> None:
    data = os.urandom(300_000)

    async def spooled() -> BlobRef:
        async with store.spool() as spool:
            for start in range(0, len(data), 50_000):
                await spool.write(data[start : start + 50_000])
        return spool.ref

    refs = await asyncio.gather(*(spooled() for _ in range(4)), *(store.put(data) for _ in range(4)))
    assert len(set(refs)) == 1
    assert visible(tmp_path) == [refs[0].key]
    assert await store.get(refs[0]) == data


async def test_an_interrupted_spool_leaves_nothing(store: BlobStore, tmp_path: Path) -> None:
    spool = store.spool()

    async def interrupted() -> None:
        async with spool:
            await spool.write(b"x" * 100_000)
            assert visible(tmp_path) == []
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await interrupted()
    assert visible(tmp_path) == []
    with pytest.raises(RuntimeError):
        _ = spool.ref


async def test_a_spool_refuses_more_than_its_bound(store: BlobStore, tmp_path: Path) -> None:
    async def too_much() -> None:
        async with store.spool(max_bytes=10) as spool:
            await spool.write(b"0123456789")
            await spool.write(b"!")

    with pytest.raises(BadInput) as caught:
        await too_much()
    assert (caught.value.code, caught.value.status) == ("blob.too_large", 413)
    assert visible(tmp_path) == []


async def test_save_writes_whole_files(store: BlobStore, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    target = tmp_path / "copy"
    target.write_bytes(b"old")
    ref = await store.put(data)
    await store.save(ref, target)
    assert target.read_bytes() == data
    assert visible(tmp_path, "") == [f"blobs/{ref.key}", "copy"]


async def test_only_large_payloads_become_references(store: BlobStore) -> None:
    small, large = b"x" * INLINE_MAX_BYTES, b"x" * (INLINE_MAX_BYTES + 1)
    assert await store.inline_or_put(small) == small
    payload = await store.inline_or_put(large)
    assert isinstance(payload, BlobRef)
    assert await store.resolve(payload) == large
    assert await store.resolve(small) == small


async def test_records_are_named_by_kind(store: BlobStore) -> None:
    assert await store.get_record("files", "a") is None
    await store.put_record("files", "b", b"2")
    await store.put_record("files", "a", b"1")
    await store.put_record("files-other", "c", b"3")
    assert await store.list_records("files") == ["a", "b"]
    assert await store.get_record("files", "a") == b"1"
    assert await store.delete_record("files", "a")
    assert not await store.delete_record("files", "a")
    assert await store.list_records("files") == ["b"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\n", "x" * 201])
async def test_a_record_name_cannot_leave_its_kind(store: BlobStore, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be part"):
        await store.put_record("files", name, b"")


async def test_derived_results(store: BlobStore) -> None:
    assert await store.get_derived("ab") is None
    await store.put_derived("ab", b"result")
    assert await store.get_derived("ab") == b"result"


async def test_collect_removes_by_class_and_writing_again_renews(store: BlobStore, tmp_path: Path) -> None:
    now = 1_800_000_000.0
    lifetimes = Lifetimes(blob_seconds=3 * DAY, derived_seconds=1 * DAY, record_seconds=2 * DAY)
    old, renewed = await store.put(b"old"), await store.put(b"renewed")
    await store.put_derived("ab", b"")
    await store.put_record("files", "a", b"")
    staged = tmp_path / "blobs" / "sha256" / "killed#1"
    staged.write_bytes(b"half")
    for path in (tmp_path / "blobs").rglob("*"):
        os.utime(path, (now - 2.5 * DAY, now - 2.5 * DAY))
    os.utime(blob_file(tmp_path, old), (now - 4 * DAY, now - 4 * DAY))
    report = await store.collect(now, lifetimes)
    assert (report.removed, report.freed_bytes, report.more) == (3, 3, False)
    assert visible(tmp_path) == [renewed.key]
    await store.put(b"renewed")
    fresh = blob_file(tmp_path, renewed).stat().st_mtime
    assert (await store.collect(fresh + 2.9 * DAY, lifetimes)).removed == 0
    assert (await store.collect(fresh + 3.1 * DAY, lifetimes)).removed == 1


def test_references_must_not_outlive_blobs() -> None:
    with pytest.raises(ValueError, match="blob_seconds"):
        Lifetimes(blob_seconds=DAY, record_seconds=DAY)


async def test_foreign_errors_are_ours(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    store = BlobStore.open((tmp_path / "blobs").as_uri())
    (tmp_path / "blobs" / "sha256").write_bytes(b"a file where a directory belongs")
    with pytest.raises(Unavailable) as caught:
        await store.put(b"x")
    assert caught.value.retryable
    with pytest.raises(Internal):
        BlobStore.open("ftp://x/y")
