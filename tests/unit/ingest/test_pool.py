"""The pool: a worker that crashes, hangs, eats memory or is killed costs its own job, and no other."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from services.ingest.exchange import Decoded, DecodeRequest
from services.ingest.pool import ROOT, WorkerPool, worker_command, worker_environment
from shared.errors import BadInput, Unavailable
from tests.unit.ingest import hostile_worker
from tests.unit.ingest.clips import png
from tests.unit.ingest.requests import LIMITS, ignore, request

MEMORY_BYTES = 1024**3
HOSTILE = (sys.executable, str(Path(hostile_worker.__file__)), str(MEMORY_BYTES))


@asynccontextmanager
async def running(
    folder: Path, *, size: int = 1, command: tuple[str, ...] = HOSTILE, job_seconds: float = 20.0
) -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(size, command, folder, job_seconds)
    async with pool.running():
        yield pool


def picture(folder: Path, name: str, command: str = "", cpu_seconds: int = 60) -> DecodeRequest:
    source = folder / name
    source.write_bytes((f"{command}\n".encode() if command else b"") + png())
    limits = msgspec.structs.replace(LIMITS, cpu_seconds=cpu_seconds)
    return request(source, folder / f"{name}.out", "image", limits=limits)


async def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110  another process changes it: there is no event to wait for
            await asyncio.sleep(0.01)


async def worker_of(source: str) -> int:
    note = Path(source + ".pid")
    await until(lambda: _text(note) != "")
    return int(_text(note))


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def gone(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def test_the_real_worker_command_decodes(tmp_path: Path) -> None:
    async with running(tmp_path, command=worker_command(3 * 1024**3)) as pool:
        found = await pool.decode(picture(tmp_path, "good.png"), ignore)
    assert (found.width, found.height) == (64, 48)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("crash", "media.crashed"),
        ("raise", "media.crashed"),
        ("babble", "media.crashed"),
        ("eat", "media.memory"),
        ("hang", "media.timeout"),
        ("spin", "media.timeout"),
    ],
)
async def test_a_broken_worker_costs_one_job(tmp_path: Path, command: str, code: str) -> None:
    job_seconds = 1.0 if command == "hang" else 20.0
    async with running(tmp_path, size=2, job_seconds=job_seconds) as pool, asyncio.TaskGroup() as group:
        bad = group.create_task(_failure(pool, picture(tmp_path, "bad.png", command, cpu_seconds=1)))
        good = [group.create_task(pool.decode(picture(tmp_path, f"{n}.png"), ignore)) for n in range(4)]
        error = await bad
        assert (error.code, error.status) == (code, 400)
        assert "own words" not in error.message
        for task in good:
            assert (await task).width == 64
        assert (await pool.decode(picture(tmp_path, "after.png"), ignore)).width == 64


async def _failure(pool: WorkerPool, bad: DecodeRequest) -> BadInput:
    with pytest.raises(BadInput) as failed:
        await pool.decode(bad, ignore)
    return failed.value


async def test_a_worker_killed_from_outside_costs_a_retry_only(tmp_path: Path) -> None:
    async with running(tmp_path, size=2) as pool, asyncio.TaskGroup() as group:
        job = picture(tmp_path, "slow.png", "hang-once")
        slow = group.create_task(pool.decode(job, ignore))
        beside = group.create_task(pool.decode(picture(tmp_path, "good.png"), ignore))
        os.kill(await worker_of(job.source), signal.SIGKILL)
        assert (await slow).width == 64
        assert (await beside).width == 64


async def test_a_frozen_worker_is_replaced(tmp_path: Path) -> None:
    async with running(tmp_path, job_seconds=1.5) as pool, asyncio.TaskGroup() as group:
        job = picture(tmp_path, "slow.png", "hang-once")
        slow = group.create_task(pool.decode(job, ignore))
        frozen = await worker_of(job.source)
        os.kill(frozen, signal.SIGSTOP)
        assert (await slow).width == 64
        assert gone(frozen)


async def test_an_idle_worker_that_died_is_no_attempt(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        first = pool._idle[0].process
        first.kill()
        await first.wait()
        assert (await pool.decode(picture(tmp_path, "good.png"), ignore)).width == 64
        assert pool._idle[0].process.pid != first.pid


async def test_a_worker_stays_warm(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        before = pool._idle[0].process.pid
        for number in range(3):
            assert isinstance(await pool.decode(picture(tmp_path, f"{number}.png"), ignore), Decoded)
        assert pool._idle[0].process.pid == before


async def test_cancelling_kills_the_worker_of_the_job(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        job = picture(tmp_path, "slow.png", "hang")
        slow = asyncio.create_task(pool.decode(job, ignore))
        process_id = await worker_of(job.source)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        assert gone(process_id)
        assert (await pool.decode(picture(tmp_path, "good.png"), ignore)).width == 64


async def test_leaving_ends_every_worker(tmp_path: Path) -> None:
    async with running(tmp_path, size=2) as pool:
        processes = [worker.process.pid for worker in pool._idle]
    assert all(gone(process) for process in processes)


async def test_a_command_that_starts_no_worker_is_said_at_the_start(tmp_path: Path) -> None:
    for command in (("/nowhere/python",), (sys.executable, "-c", "pass")):
        with pytest.raises(Unavailable, match="no decoder worker"):
            async with running(tmp_path, command=command):
                pass


def test_a_hanging_worker_dies_with_its_parent(tmp_path: Path) -> None:
    picture(tmp_path, "slow.png", "hang")
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from tests.unit.ingest.test_pool import ignore, request, running\n"
        "folder = Path(sys.argv[1])\n"
        "async def go():\n"
        "    async with running(folder, job_seconds=60) as pool:\n"
        "        await pool.decode(request(folder / 'slow.png', folder / 'out', 'image'), ignore)\n"
        "asyncio.run(go())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT)
    try:
        process_id = asyncio.run(worker_of(str(tmp_path / "slow.png")))
    finally:
        parent.kill()
        parent.wait()
    asyncio.run(until(lambda: gone(process_id), 5.0))


def test_a_worker_inherits_no_settings_and_loads_no_foreign_part() -> None:
    kept = worker_environment({"PATH": "/bin", "NATS_URL": "x", "MOONTIDE_BUS_PASSWORD": "x", "AWS_SECRET": "x"})
    assert set(kept) == {"PATH", "PYTHONPATH", "PYTHONSAFEPATH", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"}
    foreign = ("torch", "nats", "aiohttp", "obstore")
    code = f"import services.ingest.worker, sys; print([name for name in {foreign} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[]"
