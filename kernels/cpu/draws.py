"""Tokens of several rows by one call of the compiled library, rows shared out to its threads.

Input: ``kernels.draws.DrawRow``. Output: ``DrawnRow``.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.cpu.library import checked
from kernels.draws import DEAD_END, Changes, DrawnRow, DrawRow, Ids, Row

_POINTER, _NUMBER, _FLOAT, _DOUBLE = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_double
NONE = -1


_IDS, _ARRAYS = ("seen", "counted", "biased", "forbidden"), ("counts", "biases")


class _Row(ctypes.Structure):
    _fields_ = (
        ("logits", _POINTER),
        ("count", _NUMBER),
        *((name, _POINTER) for name in _IDS + _ARRAYS),
        ("mask", ctypes.c_char_p),
        *((f"{name}_count", _NUMBER) for name in _IDS),
        ("mask_bytes", _NUMBER),
        *((name, _FLOAT) for name in ("repetition", "presence", "frequency")),
        ("number", _DOUBLE),
        ("top_p", _DOUBLE),
        ("temperature", _FLOAT),
        ("min_p", _FLOAT),
        ("top_k", _NUMBER),
        ("token", _NUMBER),
        ("top", _NUMBER),
        ("chosen", _DOUBLE),
        ("top_ids", _POINTER),
        ("top_values", _POINTER),
    )


def draw(library: ctypes.CDLL, isa: int, rows: Sequence[DrawRow]) -> list[DrawnRow]:
    most = max(max(row.top_logprobs or 0, 0) for row in rows)
    ids, values = np.zeros((len(rows), most), dtype=np.int64), np.zeros((len(rows), most), dtype=np.float64)
    jobs = (_Row * len(rows))()
    for index, row in enumerate(rows):
        jobs[index] = _job(row, ids.ctypes.data + index * most * 8, values.ctypes.data + index * most * 8)
    checked(library.moontide_draws(isa, jobs, len(rows)))
    return [_drawn(*found) for found in zip(jobs, ids, values, strict=True)]


def _drawn(job: _Row, ids: NDArray[np.int64], values: NDArray[np.float64]) -> DrawnRow:
    if job.token < 0:
        return DrawnRow(DEAD_END)
    if job.top < 0:
        return DrawnRow(job.token)
    return DrawnRow(job.token, job.chosen, tuple(ids[: job.top].tolist()), tuple(values[: job.top].tolist()))


def _job(row: DrawRow, ids: int, values: int) -> _Row:
    logits, forced = row.logits, NONE if row.forced is None else row.forced
    count = len(logits)
    if logits.ndim != 1 or logits.dtype != np.float32 or not logits.flags.c_contiguous or not count:
        raise ValueError("contiguous logits [W] in float32 are expected")
    job = _Row(
        logits=_address(logits),
        count=count,
        number=row.number,
        top_p=row.top_p,
        temperature=row.temperature,
        min_p=row.min_p,
        top_k=row.top_k,
        token=forced,
        top=NONE if row.top_logprobs is None else min(row.top_logprobs, count),
        top_ids=ids,
        top_values=values,
    )
    if not row.changes.nothing:
        _fill(job, row.changes)
    return job


def _fill(job: _Row, changes: Changes) -> None:
    for name in _IDS:
        ids: Ids = getattr(changes, name)
        if len(ids):
            if ids.dtype != np.int32 or not ids.flags.c_contiguous:
                raise ValueError(f"{name} ids are not int32")
            setattr(job, name, _address(ids))
            setattr(job, f"{name}_count", len(ids))
    for name, of in (("counts", changes.counted), ("biases", changes.biased)):
        numbers: Row = getattr(changes, name)
        if numbers.shape != of.shape or numbers.dtype != np.float32 or not numbers.flags.c_contiguous:
            raise ValueError(f"{name} are not as many float32 as their ids")
        setattr(job, name, _address(numbers))
    job.repetition, job.presence, job.frequency = changes.repetition, changes.presence, changes.frequency
    job.mask, job.mask_bytes = changes.mask or None, len(changes.mask)


def _address(array: NDArray[Any]) -> int:
    return array.__array_interface__["data"][0]  # ``ctypes.data`` takes ten times as long
