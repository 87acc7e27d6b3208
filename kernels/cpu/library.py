"""The compiled library: where it lies, what it offers, its signatures.

Built by the installation when a compiler is there. Input: nothing. Output: the library, or None without one. ctypes
releases the interpreter's lock during a call.
"""

import ctypes
from functools import cache
from importlib.util import find_spec

INSTRUCTION_SETS = ("generic", "avx2", "avx512", "avx512_bf16")
"""By number, slowest first."""

_NUMBER, _POINTER, _FLOAT = ctypes.c_int64, ctypes.c_void_p, ctypes.c_float
_SIGNATURES = {
    "moontide_products": [_NUMBER] + 5 * [_POINTER] + 7 * [_NUMBER],
    "moontide_experts": [_NUMBER] + 9 * [_POINTER] + 5 * [_NUMBER],
    "moontide_attention": [_NUMBER] + 6 * [_POINTER] + 8 * [_NUMBER] + [_FLOAT, _NUMBER],
    "moontide_rms_norm": [_NUMBER] + 3 * [_POINTER] + 3 * [_NUMBER] + [_FLOAT, _NUMBER],
    "moontide_rotate": [_NUMBER] + 4 * [_POINTER] + 6 * [_NUMBER],
    "moontide_weighted_sum": [_NUMBER] + 3 * [_POINTER] + 4 * [_NUMBER],
    "moontide_layers": [_NUMBER, _POINTER, _NUMBER, _POINTER],
    "moontide_draws": [_NUMBER, _POINTER, _NUMBER],
    "moontide_pack": 2 * [_POINTER] + 6 * [_NUMBER],
    "moontide_pack_int4": 4 * [_POINTER] + 5 * [_NUMBER],
    "moontide_bf12_heads": 2 * [_POINTER] + 3 * [_NUMBER],
    "moontide_bf12_pack": 3 * [_POINTER] + 3 * [_NUMBER],
    "moontide_set_threads": [_NUMBER],
    "moontide_threads": [],
    "moontide_supported": [_NUMBER],
}


@cache
def library() -> ctypes.CDLL | None:
    place = find_spec("kernels.cpu._native")
    if place is None or place.origin is None:
        return None
    found = ctypes.CDLL(place.origin)
    for name, arguments in _SIGNATURES.items():
        function = getattr(found, name)
        function.argtypes, function.restype = arguments, _NUMBER
    return found


def instruction_sets() -> tuple[str, ...]:
    """Those that the library was compiled for and this processor has, slowest first."""
    found = library()
    if found is None:
        return ()
    return tuple(name for number, name in enumerate(INSTRUCTION_SETS) if found.moontide_supported(number))


def checked(status: int) -> None:
    """What the library reports, as an exception."""
    if status == -1:
        raise IndexError("an expert, sequence, position, page or token is out of range")
    if status:
        raise MemoryError("a kernel found no memory")
