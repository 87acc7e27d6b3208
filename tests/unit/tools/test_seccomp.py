"""The filter, run by an interpreter of its own here, against the policy; and its numbers against the kernel's."""

import errno
import functools
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.tools import seccomp
from services.tools.seccomp import (
    ABSENT,
    ALLOW,
    ARCHITECTURES,
    CLONE,
    FORBIDDEN,
    IOCTL,
    KILL,
    LAST_KNOWN,
    REFUSE,
    SOCKET,
)

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
WORDS = st.integers(min_value=0, max_value=2**32 - 1)


@functools.cache
def instructions(machine: str) -> list[tuple[int, int, int, int]]:
    return list(struct.iter_unpack("<HBBI", seccomp.assembled(machine)))


def judged(machine: str, number: int, arguments: tuple[int, int], architecture: int | None = None) -> int:
    """What the kernel would do: classic BPF over ``struct seccomp_data``."""
    arch = ARCHITECTURES[machine] if architecture is None else architecture
    data = struct.pack("<IIQQQ32x", number, arch, 0, *arguments)
    code = instructions(machine)
    accumulator, at = 0, 0
    while True:
        operation, if_true, if_false, operand = code[at]
        at += 1
        if operation == seccomp.LOAD:
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif operation == seccomp.RETURN:
            return operand
        else:
            holds = {
                seccomp.EQUAL: accumulator == operand,
                seccomp.GREATER: accumulator > operand,
                seccomp.ANY_BIT: accumulator & operand != 0,
            }[operation]
            at += if_true if holds else if_false


def expected(machine: str, number: int, first: int, second: int) -> int:
    column = list(ARCHITECTURES).index(machine)
    if number > LAST_KNOWN or number in [numbers[column] for numbers in ABSENT.values()]:
        return REFUSE | errno.ENOSYS
    if number in [numbers[column] for numbers in FORBIDDEN.values()]:
        return REFUSE | errno.EPERM
    if number == CLONE[column] and first & seccomp.NEW_NAMESPACES & 0xFFFF_FFFF:
        return REFUSE | errno.EPERM
    if number == SOCKET[column] and first & 0xFFFF_FFFF != seccomp.AF_UNIX:
        return REFUSE | errno.EAFNOSUPPORT
    if number == IOCTL[column] and second & 0xFFFF_FFFF in (seccomp.TIOCSTI, seccomp.TIOCLINUX):
        return REFUSE | errno.EPERM
    return ALLOW


@pytest.mark.parametrize("machine", ARCHITECTURES)
@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    number=st.one_of(st.integers(0, 500), WORDS),
    first=st.one_of(st.integers(0, 50), st.integers(0, 63).map(lambda bit: 1 << bit), WORDS),
    second=st.one_of(st.sampled_from([0x5412, 0x541C, 0x5413, 0x1_0000_5412]), WORDS),
)
def test_the_program_is_the_policy(machine: str, number: int, first: int, second: int) -> None:
    assert judged(machine, number, (first, second)) == expected(machine, number, first, second)


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_every_known_number_is_judged_as_written(machine: str) -> None:
    for number in range(LAST_KNOWN + 2):
        for first in (0, 1, 2, 0x1000_0000):
            assert judged(machine, number, (first, 0)) == expected(machine, number, first, 0)


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_calls_in_the_way_of_another_architecture_kill(machine: str) -> None:
    assert judged(machine, 1, (0, 0), architecture=0x4000_0003) == KILL  # i386


@pytest.mark.parametrize(("machine", "column"), [("x86_64", 0), ("aarch64", 1)])
def test_numbers_are_the_kernels(machine: str, column: int) -> None:
    if not HEADERS[machine].exists():
        pytest.skip("no kernel headers on this machine")
    pairs = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[machine].read_text())
    numbers = {name: int(number) for name, number in pairs}
    table = {**FORBIDDEN, **ABSENT, "clone": CLONE, "socket": SOCKET, "ioctl": IOCTL}
    for name, known in table.items():
        if name in numbers:
            assert known[column] == numbers[name], name


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(KeyError, match="riscv64"):
        seccomp.program("riscv64")
