"""System calls that Python has no word for, for preparing and judging."""

import ctypes
import os
import platform
import struct
from pathlib import Path

from tests.escape.case import LeftOut

LIBC = ctypes.CDLL(None, use_errno=True)
MAX_HANDLE_BYTES = 128
KEYCTL = {"x86_64": 250, "aarch64": 219}
KEYCTL_SEARCH = 10
USER_KEYRING = -4
ALL_OF = 1 << 21 | 1 << 19 | 1 << 18 | 1 << 13 | 1 << 2
"""CAP_SYS_ADMIN, SYS_PTRACE, SYS_CHROOT, NET_RAW, DAC_READ_SEARCH: what root has outside of containers."""


def root_only() -> None:
    """Raises LeftOut where this process may not do what the attack begins with."""
    status = Path("/proc/self/status").read_text()
    capabilities = int(next(line for line in status.splitlines() if line.startswith("CapEff:")).split()[1], 16)
    if capabilities & ALL_OF != ALL_OF:
        raise LeftOut("only root can do this without a sandbox either")


def file_handle(path: Path) -> bytes:
    """``struct file_handle`` of a file. Raises LeftOut where its file system has none."""
    handle = ctypes.create_string_buffer(struct.pack("Ii", MAX_HANDLE_BYTES, 0) + bytes(MAX_HANDLE_BYTES))
    mount = ctypes.c_int()
    if LIBC.name_to_handle_at(-100, os.fsencode(path), handle, ctypes.byref(mount), 0) != 0:
        raise LeftOut("this file system knows no handles")
    count, _ = struct.unpack_from("Ii", handle.raw)
    return handle.raw[: 8 + count]


def has_key(description: str) -> bool:
    """Whether the user's keyring holds such a key."""
    number = KEYCTL[platform.machine()]
    return LIBC.syscall(number, KEYCTL_SEARCH, USER_KEYRING, b"user", description.encode(), 0) > 0
