"""Weights out of mapped files: views where they fit, else copied piece by piece, and the source's pages given back.

Input: a view of a mapped file. Output: a tensor of the wanted type on the wanted device. A mapped page counts as this
process's memory from its first use on; without giving it back, a converted model would count twice.
"""

import ctypes
import mmap
from functools import cache

import torch
from torch import Tensor

PIECE_BYTES = 8 * 2**20
"""Of the source: what is in memory twice at most."""


def placed(view: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``view`` itself where type and device are right already: its pages are read when they are first used."""
    if view.dtype == dtype and view.device.type == device.type:
        return view
    target = torch.empty(view.shape, dtype=dtype, device=device)
    step = PIECE_BYTES // view.element_size()
    for source, goal in zip(view.flatten().split(step), target.flatten().split(step), strict=True):
        goal.copy_(source)
        release(source)
    return target


def release(view: Tensor) -> None:
    """Give the whole pages under a view of an unchanged private mapping back; another use reads the file again."""
    first = -(-view.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (view.data_ptr() + view.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    advice = getattr(mmap, "MADV_DONTNEED", None)
    if advice is not None and end > first:
        _libc().madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), advice)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
