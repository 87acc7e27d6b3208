"""Memory of this process as the kernel counts it, in bytes.

Input: ``/proc/self/status`` (Linux). ``VmHWM`` is the largest resident set since the program was started; unlike
``ru_maxrss`` it does not begin with what the parent had. Both count anonymous pages and every page of a mapped file
that was touched and not given back, shared with others or not.
"""

from pathlib import Path


def resident_bytes() -> int:
    return _status("VmRSS")


def peak_bytes() -> int:
    return _status("VmHWM")


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
