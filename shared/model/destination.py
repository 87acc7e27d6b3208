"""Where a checkpoint is written: a directory that appears whole or not at all, its JSON files, its tensor files.

Input: a path, tensors piece by piece. Output: files in the safetensors format, however large, within a piece's memory.
Source of the format: https://github.com/huggingface/safetensors#format (header length, JSON header, data).
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import torch
from torch import Tensor

from shared.errors import BadInput
from shared.model.layout import Stored

READABLE = 0o644
ALIGNMENT = 8
"""The header is padded with blanks to a multiple of this, as safetensors does."""


@contextmanager
def destination(out: Path) -> Iterator[Path]:
    """A directory to fill, which becomes ``out`` when all went well. Raises BadInput when ``out`` exists and is not an
    empty directory, or cannot be written."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise BadInput("checkpoint.exists", f"{out} exists already", param=str(out))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as name:
            partial = Path(name) / "checkpoint"
            partial.mkdir()
            yield partial
            partial.rename(out)
    except OSError as error:
        raise BadInput("checkpoint.unwritable", f"cannot write {out}: {error.strerror}", param=str(out)) from error


def write_json(path: Path, value: Any) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def index(where: dict[str, str], total_bytes: int) -> dict[str, Any]:
    """``model.safetensors.index.json``: file of each tensor, and the bytes of all."""
    return {"metadata": {"total_size": total_bytes}, "weight_map": dict(sorted(where.items()))}


class TensorFile:
    """One safetensors file, whose tensors are given piece by piece in any order. Use as a context manager."""

    def __init__(self, path: Path, tensors: Sequence[Stored]) -> None:
        self._next: dict[str, int] = {}
        self._end: dict[str, int] = {}
        header = self._header(tensors)
        self._file = path.open("wb")
        path.chmod(READABLE)
        self._file.write(len(header).to_bytes(8, "little") + header)
        base = self._file.tell()
        for offsets in (self._next, self._end):
            offsets.update({name: base + offset for name, offset in offsets.items()})

    def __enter__(self) -> "TensorFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None and self._next != self._end:
            raise ValueError(
                f"tensors not written whole: {[n for n in self._end if self._next[n] != self._end[n]][:8]}"
            )

    def append(self, name: str, piece: Tensor) -> None:
        """The next rows of a tensor, in the stored type."""
        self._file.seek(self._next[name])
        self._next[name] += self._file.write(piece.contiguous().flatten().view(torch.uint8).numpy().data)

    def _header(self, tensors: Sequence[Stored]) -> bytes:
        """Wide types come first, so that every tensor lies at a multiple of its element size."""
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for tensor in sorted(tensors, key=lambda t: (-t.element_bytes, t.name)):
            self._next[tensor.name], offset = offset, offset + tensor.size_bytes
            self._end[tensor.name] = offset
            span = [self._next[tensor.name], offset]
            header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": span}
        encoded = json.dumps(header, separators=(",", ":")).encode()
        return encoded + b" " * (-len(encoded) % ALIGNMENT)
