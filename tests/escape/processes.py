"""Other processes: seen, stopped, ended, read; and processes that stay."""

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.escape.attack import Judge, Prepare, Trace, program, said_won, told_the_secret
from tests.escape.case import Ground
from tests.escape.libc import root_only

VICTIM = """
import ctypes, os, sys, time
kept = open(sys.argv[1])
os.chdir(os.path.dirname(sys.argv[1]))
memory = ctypes.create_string_buffer(kept.read().encode())
print(ctypes.addressof(memory), kept.fileno(), flush=True)
time.sleep(60)
"""
LATER_SECONDS = 1.2


def kill(g: dict[str, Any]) -> None:
    """end a process of the machine"""
    os.kill(g["victim"], signal.SIGKILL)


def stop(g: dict[str, Any]) -> None:
    """stop a process of the machine"""
    os.kill(g["victim"], signal.SIGSTOP)


def kill_by_descriptor(g: dict[str, Any]) -> None:
    """end a process of the machine through a descriptor of it"""
    signal.pidfd_send_signal(os.pidfd_open(g["victim"]), signal.SIGKILL)


def see(g: dict[str, Any]) -> None:
    """see the command lines of the machine's processes"""
    for pid in os.listdir("/proc"):
        try:
            print(open(f"/proc/{pid}/cmdline").read())
        except OSError:
            continue


def read_environment(g: dict[str, Any]) -> None:
    """read secrets in the environments of other processes"""
    for pid in os.listdir("/proc"):
        try:
            print(open(f"/proc/{pid}/environ").read())
        except OSError:
            continue


def read_by_directory(g: dict[str, Any]) -> None:
    """read a file of the machine through the directory of a process"""
    print(open(f"/proc/{g['victim']}/cwd/canary").read())


def read_by_root(g: dict[str, Any]) -> None:
    """read a file of the machine through the root of a process"""
    print(open(f"/proc/{g['victim']}/root{g['canary']}").read())


def read_by_descriptor(g: dict[str, Any]) -> None:
    """read a file of the machine through the descriptors of a process"""
    print(open(f"/proc/{g['victim']}/fd/{g['descriptor']}").read())


def read_memory(g: dict[str, Any]) -> None:
    """read the memory of a process through /proc"""
    memory = os.open(f"/proc/{g['victim']}/mem", os.O_RDONLY)
    print(os.pread(memory, 32, g["address"]).decode())


def read_memory_by_call(g: dict[str, Any]) -> None:
    """read the memory of a process with process_vm_readv"""
    libc = ctypes.CDLL(None)
    into = ctypes.create_string_buffer(32)
    here = (ctypes.c_size_t * 2)(ctypes.addressof(into), 32)
    there = (ctypes.c_size_t * 2)(g["address"], 32)
    libc.process_vm_readv(g["victim"], here, ctypes.c_ulong(1), there, ctypes.c_ulong(1), ctypes.c_ulong(0))
    print(into.raw.decode())


def trace(g: dict[str, Any]) -> None:
    """trace a process and read its memory word by word"""
    libc = ctypes.CDLL(None)
    libc.ptrace.restype = ctypes.c_long
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    assert libc.ptrace(16, g["victim"], None, None) == 0
    os.waitpid(g["victim"], 0x40000000)
    words = [libc.ptrace(2, g["victim"], g["address"] + at, None) for at in range(0, 32, 8)]
    libc.ptrace(17, g["victim"], None, None)
    print(b"".join((word & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little") for word in words).decode())


def trace_a_child(g: dict[str, Any]) -> None:
    """trace a process of its own, which is how filters are gone around"""
    child = os.fork()
    if child == 0:
        time.sleep(5)
    answer = ctypes.CDLL(None).ptrace(16, child, None, None)
    os.kill(child, signal.SIGKILL)
    if answer == 0:
        print("the kernel said yes")


def take_descriptor(g: dict[str, Any]) -> None:
    """take an open file away from a process"""
    descriptor = ctypes.CDLL(None).syscall(438, os.pidfd_open(g["victim"]), g["descriptor"], 0)
    print(os.pread(descriptor, 100, 0).decode())


def limit(g: dict[str, Any]) -> None:
    """change the limits of a process"""
    import resource

    resource.prlimit(g["victim"], resource.RLIMIT_NOFILE, (77, 77))


def enter(g: dict[str, Any]) -> None:
    """enter the namespaces of a process and read a file there"""
    for kind in ("net", "mnt"):
        descriptor = os.open(f"/proc/{g['victim']}/ns/{kind}", os.O_RDONLY)
        assert ctypes.CDLL(None).setns(descriptor, 0) == 0
    print(open(g["canary"]).read())


def stay(g: dict[str, Any]) -> None:
    """leave a process behind that works on after the call"""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            for descriptor in range(3):
                os.close(descriptor)
            time.sleep(0.6)
            open(g["workspace"] + "/late", "w").write("still here")
        os._exit(0)
    os.wait()


def stay_as_zombies(g: dict[str, Any]) -> None:
    """leave children behind that nobody buries, and one that waits for them"""
    for _ in range(5):
        if os.fork() == 0:
            os._exit(0)
    if os.fork() == 0:
        os.setsid()
        time.sleep(0.6)
        open(g["workspace"] + "/late", "w").write("still here")
        os._exit(0)


def outlast(g: dict[str, Any]) -> None:
    """outlast a signal to end, to work on"""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    if os.fork():
        os._exit(0)
    time.sleep(0.6)
    open(g["workspace"] + "/late", "w").write("still here")


@asynccontextmanager
async def a_victim(ground: Ground) -> AsyncIterator[None]:
    victim = await asyncio.create_subprocess_exec(
        sys.executable,
        "-S",
        "-c",
        VICTIM,
        str(ground.canary),
        f"--mark={ground.token}",
        stdout=asyncio.subprocess.PIPE,
        env={"ESCAPE_SECRET": ground.token},
    )
    assert victim.stdout is not None
    try:
        async with asyncio.timeout(20):
            address, descriptor = map(int, (await victim.stdout.readline()).split())
        ground.facts |= {"victim": victim.pid, "address": address, "descriptor": descriptor}
        yield
    finally:
        if victim.returncode is None:
            victim.kill()
        await victim.wait()


@asynccontextmanager
async def a_victim_of_root(ground: Ground) -> AsyncIterator[None]:
    root_only()
    async with a_victim(ground):
        yield


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


async def the_victim_is(ground: Ground, *states: str) -> bool:
    for _ in range(20):
        if state_of(ground.facts["victim"]) in states:
            return True
        await asyncio.sleep(0.02)
    return False


async def is_dead(ground: Ground, trace: Trace) -> bool:
    return await the_victim_is(ground, "X", "Z")


async def stands_still(ground: Ground, trace: Trace) -> bool:
    return await the_victim_is(ground, "T")


def is_limited(ground: Ground, trace: Trace) -> bool:
    limits = Path(f"/proc/{ground.facts['victim']}/limits").read_text()
    return any(line.split()[:4] == ["Max", "open", "files", "77"] for line in limits.splitlines())


async def was_late(ground: Ground, trace: Trace) -> bool:
    for _ in range(int(LATER_SECONDS / 0.05)):
        if (ground.workspace / "late").exists():
            return True
        await asyncio.sleep(0.05)
    return False


@asynccontextmanager
async def nobody(ground: Ground) -> AsyncIterator[None]:
    yield


JUDGED: list[tuple[Any, Judge, Prepare, bool]] = [
    (kill, is_dead, a_victim, True),
    (stop, stands_still, a_victim, False),
    (kill_by_descriptor, is_dead, a_victim, False),
    (see, told_the_secret, a_victim, True),
    (read_environment, told_the_secret, a_victim, False),
    (read_by_directory, told_the_secret, a_victim, False),
    (read_by_root, told_the_secret, a_victim, False),
    (read_by_descriptor, told_the_secret, a_victim, False),
    (read_memory, told_the_secret, a_victim_of_root, False),
    (read_memory_by_call, told_the_secret, a_victim_of_root, False),
    (trace, told_the_secret, a_victim_of_root, True),
    (trace_a_child, said_won, nobody, False),
    (take_descriptor, told_the_secret, a_victim_of_root, False),
    (limit, is_limited, a_victim, False),
    (enter, told_the_secret, a_victim_of_root, False),
    (stay, was_late, nobody, True),
    (stay_as_zombies, was_late, nobody, False),
    (outlast, was_late, nobody, False),
]
CASES = [program("processes", attack, won, prepare, quick=quick) for attack, won, prepare, quick in JUDGED]
