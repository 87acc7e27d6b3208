"""More than one call may have: processes, memory, disk, time, output. Each attack bounds itself, so that the machine
survives it without the sandbox; the bounds of ``attack.BOUNDS`` are below that.
"""

import os
import sys
import time
from typing import Any

from services.tools.disk import used
from tests.escape.attack import BOUNDS, Judge, Trace, nothing, program, said_won
from tests.escape.case import Ground

MIB = 1024 * 1024


def bomb(g: dict[str, Any]) -> None:
    """a fork bomb of 150 processes"""
    children = []
    for _ in range(150):
        child = os.fork()
        if child == 0:
            time.sleep(3)
            os._exit(0)
        children.append(child)
    print("the kernel said yes", flush=True)
    for child in children:
        os.kill(child, 9)


def bomb_that_grows(g: dict[str, Any]) -> None:
    """a fork bomb whose children bear children"""
    for _ in range(7):
        os.fork()
    print(".", end="", flush=True)
    time.sleep(0.5)


def threads(g: dict[str, Any]) -> None:
    """150 threads"""
    import threading

    for _ in range(150):
        threading.Thread(target=time.sleep, args=(1,), daemon=True).start()
    print("the kernel said yes", flush=True)
    os._exit(0)


def raise_limits(g: dict[str, Any]) -> None:
    """150 processes after lifting the limit on them"""
    import resource

    resource.setrlimit(resource.RLIMIT_NPROC, (10_000, 10_000))
    children = []
    for _ in range(150):
        child = os.fork()
        if child == 0:
            time.sleep(3)
            os._exit(0)
        children.append(child)
    print("the kernel said yes", flush=True)
    for child in children:
        os.kill(child, 9)


def take_memory(g: dict[str, Any]) -> None:
    """400 MiB of memory in one process"""
    block = bytearray(400 * 1024 * 1024)
    block[::4096] = b"x" * len(block[::4096])
    print("the kernel said yes")


def take_memory_together(g: dict[str, Any]) -> None:
    """400 MiB of memory in eight processes"""
    children = []
    for _ in range(8):
        child = os.fork()
        if child == 0:
            block = bytearray(50 * 1024 * 1024)
            block[::4096] = b"x" * len(block[::4096])
            time.sleep(1.5)
            os._exit(0)
        children.append(child)
    if all(os.waitpid(child, 0)[1] == 0 for child in children):
        print("the kernel said yes")


def take_nameless_memory(g: dict[str, Any]) -> None:
    """400 MiB of memory that belongs to no process"""
    for _ in range(20):
        descriptor = os.memfd_create("hidden")
        os.set_inheritable(descriptor, True)
        for _ in range(20):
            os.write(descriptor, b"x" * 1024 * 1024)
    print("the kernel said yes")


def take_shared_memory(g: dict[str, Any]) -> None:
    """100 MiB in the file system of shared memory"""
    path = f"/dev/shm/escape-{os.getpid()}"
    try:
        with open(path, "wb") as file:
            for _ in range(100):
                file.write(b"x" * 1024 * 1024)
                file.flush()
        print("the kernel said yes")
    finally:
        os.unlink(path)


def fill_temporary(g: dict[str, Any]) -> None:
    """100 MiB in the temporary directory"""
    import tempfile

    total = 0
    files = []
    for _ in range(10):
        file = tempfile.TemporaryFile(buffering=0)
        files.append(file)
        for _ in range(10):
            total += file.write(b"x" * 1024 * 1024)
    if total == 100 * 1024 * 1024:
        print("the kernel said yes")


def fill_workspace(g: dict[str, Any]) -> None:
    """150 MiB in the workspace"""
    for number in range(15):
        with open(f"{g['workspace']}/fill-{number}", "wb") as file:
            for _ in range(10):
                file.write(b"x" * 1024 * 1024)
                file.flush()
        time.sleep(0.05)
    time.sleep(1)


def fill_without_names(g: dict[str, Any]) -> None:
    """300 MiB on the disk in files that have no name any more"""
    files = []
    for number in range(30):
        file = open(f"{g['workspace']}/gone-{number}", "wb", buffering=0)
        os.unlink(f"{g['workspace']}/gone-{number}")
        for _ in range(10):
            file.write(b"x" * 1024 * 1024)
        files.append(file)
        time.sleep(0.03)
    time.sleep(0.5)
    print("the kernel said yes")


def one_large_file(g: dict[str, Any]) -> None:
    """one file of 40 MiB"""
    with open(g["workspace"] + "/large", "wb") as file:
        for _ in range(40):
            file.write(b"x" * 1024 * 1024)
    print("the kernel said yes")


def many_files(g: dict[str, Any]) -> None:
    """5,000 files in the workspace"""
    for number in range(5000):
        open(f"{g['workspace']}/many-{number}", "w").close()
        if number % 500 == 0:
            time.sleep(0.15)
    time.sleep(0.5)
    print("the kernel said yes")


def many_descriptors(g: dict[str, Any]) -> None:
    """600 open files"""
    import resource

    files = [os.open("/dev/null", os.O_RDONLY) for _ in range(600)]
    if len(files) == 600 and resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 600:
        print("the kernel said yes")


def burn(g: dict[str, Any]) -> None:
    """three seconds of processor time"""
    while time.process_time() < 3:
        pass
    print("the kernel said yes")


def burn_together(g: dict[str, Any]) -> None:
    """three seconds of processor time in ten processes one after the other"""
    for _ in range(10):
        child = os.fork()
        if child == 0:
            while time.process_time() < 0.3:
                pass
            os._exit(0)
        os.waitpid(child, 0)
    print("the kernel said yes")


def flood(g: dict[str, Any]) -> None:
    """12 MiB of output"""
    for _ in range(12):
        os.write(1, b"x" * 1024 * 1024)
    sys.stdout.flush()


def said_a_dot_128_times(ground: Ground, trace: Trace) -> bool:
    return trace.output.count(".") >= 128


def wrote_much(ground: Ground, trace: Trace) -> bool:
    return used(ground.workspace).size_bytes > 2 * BOUNDS.workspace_bytes


def said_much(ground: Ground, trace: Trace) -> bool:
    return len(trace.output) > 2 * BOUNDS.output_bytes


JUDGED: list[tuple[Any, Judge, bool]] = [
    (bomb, said_won, True),
    (bomb_that_grows, said_a_dot_128_times, False),
    (threads, said_won, False),
    (raise_limits, said_won, False),
    (take_memory, said_won, True),
    (take_memory_together, said_won, True),
    (take_nameless_memory, said_won, False),
    (take_shared_memory, said_won, False),
    (fill_temporary, said_won, False),
    (fill_workspace, wrote_much, True),
    (fill_without_names, said_won, False),
    (one_large_file, said_won, False),
    (many_files, said_won, False),
    (many_descriptors, said_won, False),
    (burn, said_won, True),
    (burn_together, said_won, False),
    (flood, said_much, False),
]
CASES = [program("resources", attack, won, nothing, quick=quick) for attack, won, quick in JUDGED]
