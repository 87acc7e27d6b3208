"""Loading: a checkpoint directory becomes a network, checked whole before the first weight is read.

Input: directory, compute dtype, device, the part that is wanted. Output: ``Checkpoint``. A linear layer is taken as
``.weight`` or ``.weight_packed``, whichever is there. Layer by layer, the matrices are laid out for the kernels and the
file's pages given back, so that nothing is in memory twice.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from torch import nn

from kernels.weights import Int4, Matrix
from shared.model import config as configuration
from shared.model.config import ModelConfig
from shared.model.digest import weights_digest
from shared.model.layout import DTYPES, TEXT, Entry, Stored, entries, stored
from shared.model.linear import Int4Linear, Linear, prepare
from shared.model.mapped import placed, release
from shared.model.network import Network, build
from shared.model.part import EVERYTHING, Part
from shared.model.shards import Shards, bad_checkpoint

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all) after each tensor."""


@dataclass(frozen=True)
class Checkpoint:
    config: ModelConfig
    network: Network
    digest: str


def load(
    directory: Path,
    *,
    dtype: torch.dtype | None = None,
    device: str = "cpu",
    latent_eps: float | None = None,
    part: Part = EVERYTHING,
    progress: Progress | None = None,
    prepared: bool = True,
) -> Checkpoint:
    """The network of a checkpoint directory. ``dtype``: of the computation, bfloat16 or float32; by default that of the
    configuration, and float32 for float16. Matrices in bfloat16 stay so in either.

    Weights outside ``part`` are not looked at and stay on the meta device; the digest is that of the whole set. At its
    peak this takes one matrix (of INT4 experts: one expert) more than the network itself. ``prepared`` false keeps the
    released form, which only tests want. Raises BadInput naming every missing, truncated, misnamed or wrongly shaped
    tensor.
    """
    config = configuration.load(directory)
    part.check(config.text)
    network = build(config, latent_eps)
    with Shards(directory) as shards:
        plan = _plan(config, shards)
        held = [(entry, tensors) for entry, tensors in plan if part.holds(entry)]
        shards.check(_tensors(held), known=(tensor.name for tensor in _tensors(plan)))
        filling = Filling(network, shards, dtype or computed(config.dtype), torch.device(device), prepared)
        filling.run(held, progress)
        if prepared:
            network.language_model.join()
        return Checkpoint(config, network, weights_digest(directory, shards.files))


def computed(stored_dtype: str) -> torch.dtype:
    """The dtype of the computation for weights of that type: the kernels know two."""
    return torch.bfloat16 if stored_dtype == "bfloat16" else torch.float32


Plan = list[tuple[Entry, list[Stored]]]


def _plan(config: ModelConfig, shards: Shards) -> Plan:
    """Each weight with the tensors that it is stored as: what lies on disk decides, not quantization_config."""
    return [
        (entry, stored(entry, entry.linear and f"{entry.module}.weight_packed" in shards, DTYPES[config.dtype]))
        for entry in entries(config)
    ]


def _tensors(plan: Plan) -> Iterator[Stored]:
    return (tensor for _, tensors in plan for tensor in tensors)


UNIT = re.compile(rf"{re.escape(TEXT)}model\.layers\.\d+")
"""What is laid out together: a decoder layer; everything else module by module."""


def _unit(step: tuple[Entry, list[Stored]]) -> str:
    match = UNIT.match(step[0].module)
    return match[0] if match else step[0].module


@dataclass(frozen=True)
class Filling:
    """Weights on their way from files into a network."""

    network: Network
    shards: Shards
    dtype: torch.dtype
    device: torch.device
    prepared: bool

    def run(self, plan: Plan, progress: Progress | None) -> None:
        modules: dict[str, nn.Module] = dict(self.network.named_modules())
        total, done = sum(tensor.size_bytes for tensor in _tensors(plan)), 0
        for unit, steps in groupby(plan, key=_unit):
            views: list[torch.Tensor] = []
            for entry, tensors in steps:
                module = modules[entry.module] if len(tensors) == 1 else _replace_by_int4(modules, entry.module)
                for tensor in tensors:
                    views += self._assign(module, entry, tensor, packed=len(tensors) > 1)
                    done += tensor.size_bytes
                    if progress:
                        progress(done, total)
            if self.prepared and unit.startswith(TEXT):
                prepare(modules[unit], Mapped(views).give_back)

    def _assign(self, module: nn.Module, entry: Entry, tensor: Stored, *, packed: bool) -> list[torch.Tensor]:
        """Returns the mapped view where it stays in use."""
        view = self.shards.tensor(tensor.name)
        if tensor.name.endswith("weight_shape") and tuple(view.tolist()) != entry.shape:
            problem = f"{tensor.name} says {view.tolist()}, expected {list(entry.shape)}"
            raise bad_checkpoint(self.shards.directory, [problem])
        value = placed(view, view.dtype if packed or entry.float32 else self._dtype(entry, view.dtype), self.device)
        _set(module, tensor.name.rpartition(".")[2], value)
        return [view] if value is view else []

    def _dtype(self, entry: Entry, stored_dtype: torch.dtype) -> torch.dtype:
        """Matrices of the text model stay in bfloat16 even where the computation is wider: the product is the same."""
        matrix = entry.module.startswith(TEXT) and len(entry.shape) == 2
        return stored_dtype if matrix and stored_dtype == torch.bfloat16 else self.dtype


class Mapped:
    """Views of mapped files, whose pages are given back when their bytes lie elsewhere."""

    def __init__(self, views: list[torch.Tensor]) -> None:
        self._places = {view.untyped_storage().data_ptr() for view in views}

    def give_back(self, matrix: Matrix) -> None:
        tensors = (matrix.packed, matrix.scale) if isinstance(matrix, Int4) else (matrix,)
        for tensor in tensors:
            if tensor.untyped_storage().data_ptr() in self._places:
                release(tensor)


def _replace_by_int4(modules: dict[str, nn.Module], name: str) -> Int4Linear:
    parent, _, attribute = name.rpartition(".")
    plain = modules[name]
    assert isinstance(plain, Linear)
    with torch.device("meta"):
        packed = Int4Linear(plain.columns, plain.rows)
    setattr(modules[parent], attribute, packed)
    return packed


def _set(module: nn.Module, name: str, value: torch.Tensor) -> None:
    if name in module._parameters:
        setattr(module, name, nn.Parameter(value, requires_grad=False))
    else:
        setattr(module, name, value)
