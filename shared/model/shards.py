"""The safetensors files of a checkpoint directory: which tensor lies where, checked before anything is read.

Input: a directory. Output: ``Shards``, which maps tensors into memory one by one. safetensors' errors end here.
"""

import difflib
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open

from shared.errors import BadInput
from shared.model.layout import Stored

INDEX = "model.safetensors.index.json"
FLOATS = frozenset({"BF16", "F16", "F32"})
LISTED = 8
"""Problems named in one error."""


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


class Shards:
    """Open files of one checkpoint; use as a context manager. Tensors are views of mapped memory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stack = ExitStack()
        self._files: dict[str, Any] = {}
        self._where = self._locate()

    def __enter__(self) -> "Shards":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __contains__(self, name: str) -> bool:
        return name in self._where

    @property
    def files(self) -> list[Path]:
        """All of them, wanted or not. Raises BadInput naming those that are not there."""
        files = sorted({self.directory / file for file in self._where.values()})
        if missing := [f"missing file {file.name}" for file in files if not file.is_file()]:
            raise bad_checkpoint(self.directory, missing)
        return files

    @property
    def names(self) -> Iterable[str]:
        return self._where.keys()

    def release(self) -> None:
        """Close all files, so that nothing stays mapped but what is still in use; the next access opens them again."""
        self._stack.close()
        self._files.clear()

    def check(self, wanted: Iterable[Stored], known: Iterable[str] = ()) -> None:
        """Raise BadInput naming every wanted tensor that is missing, truncated, of another shape or type, and every
        tensor on disk that is neither wanted nor ``known``."""
        wanted = list(wanted)
        strange = self._where.keys() - {tensor.name for tensor in wanted} - set(known)
        strange = {name for name in strange if not name.endswith("rotary_emb.inv_freq")}
        problems = [problem for tensor in wanted if (problem := self._problem(tensor, strange))]
        problems += [f"unexpected tensor {name} in {self._where[name]}" for name in sorted(strange)]
        if problems:
            raise bad_checkpoint(self.directory, problems)

    def tensor(self, name: str) -> torch.Tensor:
        """A view of the mapped file."""
        try:
            return self._open(self._where[name]).get_tensor(name)
        except SafetensorError as error:
            raise bad_checkpoint(self.directory, [f"{self._where[name]}: tensor {name}: {error}"]) from error

    def _problem(self, tensor: Stored, strange: set[str]) -> str | None:
        file = self._where.get(tensor.name)
        if file is None:
            close = difflib.get_close_matches(tensor.name, strange, n=1, cutoff=0.9) if len(strange) < 1000 else []
            return f"missing tensor {tensor.name}" + (f" (is {close[0]} misnamed?)" if close else "")
        try:
            part = self._open(file).get_slice(tensor.name)
        except SafetensorError:
            return f"tensor {tensor.name} is not in {file}, where the index puts it"
        shape, dtype = tuple(part.get_shape()), part.get_dtype()
        if shape != tensor.shape:
            return f"tensor {tensor.name} in {file} has shape {list(shape)}, expected {list(tensor.shape)}"
        if dtype != tensor.dtype and not {dtype, tensor.dtype} <= FLOATS:
            return f"tensor {tensor.name} in {file} has type {dtype}, expected {tensor.dtype}"
        return None

    def _open(self, file: str) -> Any:
        if file not in self._files:
            path = self.directory / file
            try:
                self._files[file] = self._stack.enter_context(safe_open(str(path), framework="pt"))
            except FileNotFoundError as error:
                raise bad_checkpoint(self.directory, [f"missing file {file}"]) from error
            except (SafetensorError, OSError) as error:
                raise bad_checkpoint(self.directory, [f"{file} is truncated or damaged: {error}"]) from error
        return self._files[file]

    def _locate(self) -> dict[str, str]:
        index = self.directory / INDEX
        if index.exists():
            try:
                return msgspec.json.decode(index.read_bytes(), type=_Index).weight_map
            except msgspec.DecodeError as error:
                raise bad_checkpoint(self.directory, [f"{INDEX}: {error}"]) from error
        files = sorted(path.name for path in self.directory.glob("*.safetensors"))
        if not files:
            raise bad_checkpoint(self.directory, [f"no {INDEX} and no *.safetensors file"])
        return {name: file for file in files for name in self._open(file).keys()}  # noqa: SIM118


def bad_checkpoint(directory: Path, problems: list[str]) -> BadInput:
    listed = "; ".join(problems[:LISTED])
    more = f"; and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
    return BadInput("checkpoint.bad_weights", f"checkpoint {directory.name}: {listed}{more}", param=str(directory))
