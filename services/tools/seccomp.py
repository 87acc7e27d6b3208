"""The system calls that a sandboxed program may not make, as a seccomp filter in classic BPF.

Input: an architecture. Output: bytes for ``bwrap --seccomp``. Pure. Kernel interfaces that a program has no use for are
refused as a whole, and so are those that the kernel learnt later than this table; where a call is needed for plain
things too (``clone``, ``socket``, ``ioctl``) its argument decides. Must not know how a sandbox is started.
"""

import errno
import struct
from collections.abc import Iterable

# struct seccomp_data: int nr; __u32 arch; __u64 instruction_pointer; __u64 args[6] (little endian).
NUMBER, ARCHITECTURE = 0, 4
FIRST_ARGUMENT, SECOND_ARGUMENT = 16, 24

ALLOW = 0x7FFF_0000
KILL = 0x8000_0000
REFUSE = 0x0005_0000
"""Together with an errno."""

LOAD, EQUAL, GREATER, ANY_BIT, RETURN = 0x20, 0x15, 0x25, 0x45, 0x06

ARCHITECTURES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
LAST_KNOWN = 462
"""``mseal``. Numbers from 424 on are the same everywhere."""

NEW_NAMESPACES = 0x7E02_0000
"""The ``CLONE_NEW*`` flags that ``clone`` takes."""
AF_UNIX = 1
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
"""Typing into somebody's terminal."""

FORBIDDEN: dict[str, tuple[int | None, int | None]] = {
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    # mounts and namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "unshare": (272, 97),
    "setns": (308, 268),
    # keys, tracing, memory tricks
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "mbind": (237, 235),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # memory that belongs to no process, so that no bound of ours sees it
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    # the machine
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    # files by handle
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    # what nobody uses any more
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
    "uselib": (134, None),
    "_sysctl": (156, None),
    "ustat": (136, None),
    "sysfs": (139, None),
}
"""Name: number on (x86_64, aarch64). Refused with EPERM."""

ABSENT: dict[str, tuple[int, int]] = {
    "clone3": (435, 435),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}
"""As if the kernel were older (ENOSYS): programs have another way then. The flags of ``clone3`` lie where no filter can
look."""

CLONE, SOCKET, IOCTL = (56, 220), (41, 198), (16, 29)

Instruction = tuple[int, int, int, int]
"""(code, jump if true, jump if false, operand)."""


def program(machine: str) -> list[Instruction]:
    """The filter. Raises KeyError for an architecture that it is not written for."""
    architecture = ARCHITECTURES[machine]
    column = list(ARCHITECTURES).index(machine)
    return [
        *_unless_equal(ARCHITECTURE, architecture, KILL),
        (LOAD, 0, 0, NUMBER),
        *_on_greater(LAST_KNOWN, REFUSE | errno.ENOSYS),
        *_on_equal((numbers[column] for numbers in FORBIDDEN.values()), REFUSE | errno.EPERM),
        *_on_equal((numbers[column] for numbers in ABSENT.values()), REFUSE | errno.ENOSYS),
        *_when(CLONE[column], _on_any_bit(FIRST_ARGUMENT, NEW_NAMESPACES, REFUSE | errno.EPERM)),
        *_when(SOCKET[column], _unless_equal(FIRST_ARGUMENT, AF_UNIX, REFUSE | errno.EAFNOSUPPORT)),
        *_when(IOCTL[column], _on_argument(SECOND_ARGUMENT, (TIOCSTI, TIOCLINUX), REFUSE | errno.EPERM)),
        (RETURN, 0, 0, ALLOW),
    ]


def assembled(machine: str) -> bytes:
    """``struct sock_filter`` after ``struct sock_filter``."""
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program(machine))


def _on_equal(numbers: Iterable[int | None], result: int) -> list[Instruction]:
    return [
        instruction
        for number in numbers
        if number is not None
        for instruction in ((EQUAL, 0, 1, number), (RETURN, 0, 0, result))
    ]


def _on_greater(number: int, result: int) -> list[Instruction]:
    """x86_64's second way to number calls (x32) is far above it."""
    return [(GREATER, 0, 1, number), (RETURN, 0, 0, result)]


def _when(number: int, judged: list[Instruction]) -> list[Instruction]:
    """``judged`` for one call; it leaves something else loaded, so it ends in a decision."""
    return [(EQUAL, 0, len(judged) + 1, number), *judged, (RETURN, 0, 0, ALLOW)]


def _unless_equal(offset: int, value: int, result: int) -> list[Instruction]:
    return [(LOAD, 0, 0, offset), (EQUAL, 1, 0, value), (RETURN, 0, 0, result)]


def _on_any_bit(offset: int, bits: int, result: int) -> list[Instruction]:
    return [(LOAD, 0, 0, offset), (ANY_BIT, 0, 1, bits), (RETURN, 0, 0, result)]


def _on_argument(offset: int, values: Iterable[int], result: int) -> list[Instruction]:
    return [(LOAD, 0, 0, offset), *_on_equal(values, result)]
