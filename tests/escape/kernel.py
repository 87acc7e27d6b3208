"""The kernel: its settings, its namespaces, its keyrings, and interfaces that have been ways out before."""

import contextlib
import ctypes
import os
import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from services.tools import cgroup
from tests.escape.attack import Judge, Prepare, Trace, nothing, program, said_won, told_the_secret
from tests.escape.case import Ground, LeftOut
from tests.escape.libc import LIBC, has_key, root_only

CALLS = {
    "x86_64": {"add_key": 248, "keyctl": 250, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "reboot": 169},
    "aarch64": {"add_key": 217, "keyctl": 219, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "reboot": 142},
}
DOMAIN = Path("/proc/sys/kernel/domainname")


def mount_over(g: dict[str, Any]) -> None:
    """mount something over a directory of the machine"""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mount(b"none", g["outside"].encode(), b"tmpfs", 0, b"size=64k") == 0


def mount_into(g: dict[str, Any]) -> None:
    """mount a directory of the machine into the workspace"""
    libc = ctypes.CDLL(None, use_errno=True)
    os.mkdir("into")
    assert libc.mount(g["outside"].encode(), b"into", None, 4096, None) == 0
    print(open("into/canary").read())
    libc.umount2(b"into", 2)


def change_root(g: dict[str, Any]) -> None:
    """change its root, which gives a way around the root that it has"""
    os.mkdir("root")
    os.chroot("root")
    print("the kernel said yes")


def new_user_namespace(g: dict[str, Any]) -> None:
    """become root in a namespace of users, and mount there"""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x10000000 | 0x00020000) == 0
    if libc.mount(b"none", b"/", None, 0x44000, None) == 0:
        print("the kernel said yes")


def clone_user_namespace(g: dict[str, Any]) -> None:
    """make a process in a new namespace of users with clone"""
    libc = ctypes.CDLL(None, use_errno=True)
    child = libc.syscall(g["clone"], 0x10000000 | 17, None, None, None, None)
    if child == 0:
        os._exit(0)
    if child > 0:
        print("the kernel said yes")


def clone3_user_namespace(g: dict[str, Any]) -> None:
    """make a process in a new namespace of users with clone3, whose flags no filter sees"""
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (ctypes.c_uint64 * 11)(0x10000000, 0, 0, 0, 17)
    child = libc.syscall(435, arguments, ctypes.sizeof(arguments))
    if child == 0:
        os._exit(0)
    if child > 0:
        print("the kernel said yes")


def keep_a_key(g: dict[str, Any]) -> None:
    """leave a key in the kernel's keyring, where others find it"""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(g["add_key"], b"user", g["description"].encode(), b"x", 1, -4)


def change_core_pattern(g: dict[str, Any]) -> None:
    """write the program that the kernel starts when one crashes (with the value that it has)"""
    now = open("/proc/sys/kernel/core_pattern").read()
    with open("/proc/sys/kernel/core_pattern", "w") as file:
        file.write(now)
    print("the kernel said yes")


def change_domain(g: dict[str, Any]) -> None:
    """change the machine's names"""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.setdomainname(g["name"].encode(), len(g["name"]))


def write_setting(g: dict[str, Any]) -> None:
    """write a setting of the kernel (with the value that it has)"""
    now = open("/proc/sys/vm/overcommit_memory").read()
    open("/proc/sys/vm/overcommit_memory", "w").write(now)
    print("the kernel said yes")


def make_control_group(g: dict[str, Any]) -> None:
    """make a control group of its own, out of its bounds"""
    os.mkdir(g["group"])


def load_program(g: dict[str, Any]) -> None:
    """get a map of bpf"""
    libc = ctypes.CDLL(None, use_errno=True)
    wanted = (ctypes.c_uint32 * 18)(2, 4, 4, 1)
    if libc.syscall(g["bpf"], 0, wanted, ctypes.sizeof(wanted)) >= 0:
        print("the kernel said yes")


def watch_events(g: dict[str, Any]) -> None:
    """watch what the machine does with perf events"""
    libc = ctypes.CDLL(None, use_errno=True)
    wanted = (ctypes.c_uint32 * 32)(1, 128)
    if libc.syscall(g["perf_event_open"], wanted, 0, -1, -1, 0) >= 0:
        print("the kernel said yes")


def handle_faults(g: dict[str, Any]) -> None:
    """handle page faults itself, which holds the kernel in the middle of things"""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(g["userfaultfd"], 0) >= 0:
        print("the kernel said yes")


def reach_reboot(g: dict[str, Any]) -> None:
    """reach the call that restarts the machine (with a wrong word, so that it only complains of that)"""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(g["reboot"], 1, 2, 3, 0)
    if ctypes.get_errno() == 22:
        print("the kernel said yes")


def read_shared_memory(g: dict[str, Any]) -> None:
    """read shared memory of the machine"""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    place = libc.shmat(libc.shmget(g["key"], 0, 0), None, 4096)
    print(ctypes.string_at(place, 32).decode())


@asynccontextmanager
async def root(ground: Ground) -> AsyncIterator[None]:
    root_only()
    yield


@asynccontextmanager
async def a_mounted_ground(ground: Ground) -> AsyncIterator[None]:
    root_only()
    yield
    LIBC.umount2(os.fsencode(ground.outside), 2)


def covered(ground: Ground, trace: Trace) -> bool:
    return not ground.canary.exists()


@asynccontextmanager
async def numbers(ground: Ground) -> AsyncIterator[None]:
    if platform.machine() not in CALLS:
        raise LeftOut("the numbers of system calls are not known here")
    ground.facts |= CALLS[platform.machine()] | {"clone": 56 if platform.machine() == "x86_64" else 220}
    yield


@asynccontextmanager
async def numbers_of_root(ground: Ground) -> AsyncIterator[None]:
    root_only()
    async with numbers(ground):
        yield


@asynccontextmanager
async def a_key(ground: Ground) -> AsyncIterator[None]:
    ground.facts["description"] = f"escape-{ground.token[:8]}"
    async with numbers(ground):
        yield


def the_key_is_there(ground: Ground, trace: Trace) -> bool:
    return has_key(ground.facts["description"])


@asynccontextmanager
async def a_domain(ground: Ground) -> AsyncIterator[None]:
    root_only()
    before = domain()
    ground.facts["name"] = f"escape-{ground.token[:8]}"
    yield
    LIBC.setdomainname(before.encode(), len(before))


def the_domain_is(ground: Ground, trace: Trace) -> bool:
    return domain() == ground.facts["name"]


def domain() -> str:
    return DOMAIN.read_text().strip()


@asynccontextmanager
async def a_group(ground: Ground) -> AsyncIterator[None]:
    root_only()
    ground.facts["group"] = f"{cgroup.ROOT}/{'pids/' if cgroup.is_version_1() else ''}escape-{ground.token[:8]}"
    yield
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(ground.facts["group"])


def the_group_is_there(ground: Ground, trace: Trace) -> bool:
    return os.path.isdir(ground.facts["group"])


@asynccontextmanager
async def shared_memory(ground: Ground) -> AsyncIterator[None]:
    key = int(ground.token[:7], 16)
    identity = LIBC.shmget(key, 4096, 0o1666)
    LIBC.shmat.restype = ctypes.c_void_p
    place = LIBC.shmat(identity, None, 0)
    ctypes.memmove(place, ground.token.encode(), 32)
    ground.facts["key"] = key
    try:
        yield
    finally:
        LIBC.shmdt(ctypes.c_void_p(place))
        LIBC.shmctl(identity, 0, None)


JUDGED: list[tuple[Any, Judge, Prepare, bool]] = [
    (mount_over, covered, a_mounted_ground, True),
    (mount_into, told_the_secret, root, False),
    (change_root, said_won, root, False),
    (new_user_namespace, said_won, nothing, True),
    (clone_user_namespace, said_won, numbers, False),
    (clone3_user_namespace, said_won, nothing, False),
    (keep_a_key, the_key_is_there, a_key, True),
    (change_core_pattern, said_won, root, True),
    (change_domain, the_domain_is, a_domain, False),
    (write_setting, said_won, root, False),
    (make_control_group, the_group_is_there, a_group, False),
    (load_program, said_won, numbers_of_root, False),
    (watch_events, said_won, numbers_of_root, False),
    (handle_faults, said_won, numbers_of_root, False),
    (reach_reboot, said_won, numbers_of_root, False),
    (read_shared_memory, told_the_secret, shared_memory, False),
]
CASES = [program("kernel", attack, won, prepare, quick=quick) for attack, won, prepare, quick in JUDGED]
