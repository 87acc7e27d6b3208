"""The machine's files: read, changed, or reached by detours."""

import ctypes
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.escape.attack import Judge, Prepare, Trace, changed_the_canary, program, said_won, told_the_secret
from tests.escape.case import Ground, LeftOut
from tests.escape.libc import file_handle, root_only


def read_by_path(g: dict[str, Any]) -> None:
    """read a file of the machine by its path"""
    print(open(g["canary"]).read())


def read_by_dots(g: dict[str, Any]) -> None:
    """read a file of the machine through .."""
    print(open("../" * 30 + g["canary"]).read())


def read_by_link(g: dict[str, Any]) -> None:
    """read a file of the machine through a symbolic link in the workspace"""
    os.symlink(g["canary"], "link")
    print(open("link").read())


def read_by_hard_link(g: dict[str, Any]) -> None:
    """read a file of the machine through a hard link in the workspace"""
    os.link(g["canary"], "hard")
    print(open("hard").read())


def read_by_root_of_self(g: dict[str, Any]) -> None:
    """read a file of the machine through /proc/self/root"""
    print(open("/proc/self/root" + g["canary"]).read())


def read_by_handle(g: dict[str, Any]) -> None:
    """open a file of the machine by its handle, past every path"""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = ctypes.create_string_buffer(bytes.fromhex(g["handle"]))
    mount = os.open(".", os.O_RDONLY)
    descriptor = libc.open_by_handle_at(mount, handle, os.O_RDONLY)
    print(os.read(descriptor, 100).decode())


def list_directory(g: dict[str, Any]) -> None:
    """list a directory of the machine"""
    print(os.listdir(g["outside"]))


def overwrite(g: dict[str, Any]) -> None:
    """overwrite a file of the machine"""
    open(g["canary"], "w").write("overwritten")


def delete(g: dict[str, Any]) -> None:
    """delete a file of the machine"""
    os.unlink(g["canary"])


def swap_directory(g: dict[str, Any]) -> None:
    """rename a directory of the machine away"""
    os.rename(g["outside"], g["outside"] + "-away")


def change_mode(g: dict[str, Any]) -> None:
    """change the mode of a file of the machine"""
    os.chmod(g["canary"], 0o777)


def read_passwords(g: dict[str, Any]) -> None:
    """read the machine's users"""
    print(open("/etc/passwd").read())


def read_environment_of_self(g: dict[str, Any]) -> None:
    """read secrets in the service's environment"""
    print(dict(os.environ))


def read_inherited(g: dict[str, Any]) -> None:
    """read a file that the service has open, through an inherited descriptor"""
    for descriptor in range(3, 1024):
        try:
            print(os.pread(descriptor, 100, 0).decode())
        except (OSError, UnicodeDecodeError):
            continue


def write_temporary(g: dict[str, Any]) -> None:
    """leave a file in the machine's temporary directory"""
    open(g["temporary"], "w").write("here")


def write_shared_memory(g: dict[str, Any]) -> None:
    """leave a file in the machine's shared memory"""
    open(g["shared"], "w").write("here")


def open_disk(g: dict[str, Any]) -> None:
    """read the disk itself through a device made in the workspace"""
    os.mknod("disk", 0o60600, g["device"])
    if len(os.read(os.open("disk", os.O_RDONLY), 512)) == 512:
        print("the kernel said yes")


def read_interfaces(g: dict[str, Any]) -> None:
    """read the machine's devices in /sys"""
    print(os.listdir("/sys/class"))
    print("the kernel said yes")


def told_the_users(ground: Ground, trace: Trace) -> bool:
    return Path("/etc/passwd").read_text() in trace.output


def the_directory_is_gone(ground: Ground, trace: Trace) -> bool:
    away = ground.outside.with_name(ground.outside.name + "-away")
    if away.exists():
        away.rename(ground.outside)
        return True
    return False


def the_mode_changed(ground: Ground, trace: Trace) -> bool:
    return ground.canary.stat().st_mode & 0o777 == 0o777


@asynccontextmanager
async def a_named_file(ground: Ground) -> AsyncIterator[None]:
    (ground.outside / ground.token).touch()
    yield


@asynccontextmanager
async def a_handle(ground: Ground) -> AsyncIterator[None]:
    root_only()
    ground.facts["handle"] = file_handle(ground.canary).hex()
    yield


@asynccontextmanager
async def an_open_file(ground: Ground) -> AsyncIterator[None]:
    with ground.canary.open() as file:
        os.set_inheritable(file.fileno(), True)
        yield


@asynccontextmanager
async def a_disk(ground: Ground) -> AsyncIterator[None]:
    root_only()
    ground.facts["device"] = ground.outside.stat().st_dev
    probe = ground.outside / "disk"
    try:
        os.mknod(probe, 0o60600, ground.facts["device"])
        os.close(os.open(probe, os.O_RDONLY))
    except OSError as error:
        raise LeftOut("devices cannot be made and opened here without a sandbox either") from error
    yield


def a_place(name: str, folder: str) -> Prepare:
    @asynccontextmanager
    async def prepared(ground: Ground) -> AsyncIterator[None]:
        place = Path(folder) / f"escape-{ground.token}"
        ground.facts[name] = str(place)
        try:
            yield
        finally:
            place.unlink(missing_ok=True)

    return prepared


def something_is_at(name: str) -> Judge:
    return lambda ground, trace: Path(ground.facts[name]).exists()


SYSTEM_TEMPORARY = os.path.join("/", "tmp")

CASES = [
    program("host", read_by_path, told_the_secret, quick=True),
    program("host", read_by_dots, told_the_secret),
    program("host", read_by_link, told_the_secret, quick=True),
    program("host", read_by_hard_link, told_the_secret),
    program("host", read_by_root_of_self, told_the_secret),
    program("host", read_by_handle, told_the_secret, a_handle),
    program("host", list_directory, told_the_secret, a_named_file),
    program("host", overwrite, changed_the_canary, quick=True),
    program("host", delete, changed_the_canary),
    program("host", swap_directory, the_directory_is_gone),
    program("host", change_mode, the_mode_changed),
    program("host", read_passwords, told_the_users),
    program("host", read_environment_of_self, told_the_secret, quick=True),
    program("host", read_inherited, told_the_secret, an_open_file, quick=True),
    program("host", write_temporary, something_is_at("temporary"), a_place("temporary", SYSTEM_TEMPORARY)),
    program("host", write_shared_memory, something_is_at("shared"), a_place("shared", "/dev/shm")),
    program("host", open_disk, said_won, a_disk),
    program("host", read_interfaces, said_won),
]
