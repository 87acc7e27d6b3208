"""Loading: a checkpoint directory becomes a network, checked whole before the first weight is read.

Input: directory, compute dtype, device, the part that is wanted. Output: ``Checkpoint``. Weights whose type and device
already fit stay mapped; a linear layer is taken as ``.weight`` or ``.weight_packed``, whichever is there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from shared.model import config as configuration
from shared.model.config import ModelConfig
from shared.model.digest import weights_digest
from shared.model.layout import DTYPES, Entry, Stored, entries, stored
from shared.model.linear import Int4Linear, Linear
from shared.model.mapped import placed
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
) -> Checkpoint:
    """The network of a checkpoint directory. ``dtype``: of the computation, by default that of the configuration.

    Weights outside ``part`` are not looked at and stay on the meta device; the digest is that of the whole set. At its
    peak this takes 8 MiB more than the network itself. Raises BadInput naming every missing, truncated, misnamed or
    wrongly shaped tensor.
    """
    config = configuration.load(directory)
    part.check(config.text)
    network = build(config, latent_eps)
    with Shards(directory) as shards:
        plan = _plan(config, shards)
        held = [(entry, tensors) for entry, tensors in plan if part.holds(entry)]
        shards.check(_tensors(held), known=(tensor.name for tensor in _tensors(plan)))
        _fill(network, shards, held, dtype or getattr(torch, config.dtype), torch.device(device), progress)
        return Checkpoint(config, network, weights_digest(directory, shards.files))


Plan = list[tuple[Entry, list[Stored]]]


def _plan(config: ModelConfig, shards: Shards) -> Plan:
    """Each weight with the tensors that it is stored as: what lies on disk decides, not quantization_config."""
    return [
        (entry, stored(entry, entry.linear and f"{entry.module}.weight_packed" in shards, DTYPES[config.dtype]))
        for entry in entries(config)
    ]


def _tensors(plan: Plan) -> Iterator[Stored]:
    return (tensor for _, tensors in plan for tensor in tensors)


def _fill(
    network: Network, shards: Shards, plan: Plan, dtype: torch.dtype, device: torch.device, progress: Progress | None
) -> None:
    modules: dict[str, nn.Module] = dict(network.named_modules())
    total, done = sum(tensor.size_bytes for tensor in _tensors(plan)), 0
    for entry, tensors in plan:
        module = modules[entry.module]
        if len(tensors) > 1:
            module = _replace_by_int4(modules, entry.module)
        for tensor in tensors:
            value = shards.tensor(tensor.name)
            if tensor.name.endswith("weight_shape") and tuple(value.tolist()) != entry.shape:
                raise bad_checkpoint(
                    shards.directory, [f"{tensor.name} says {value.tolist()}, expected {list(entry.shape)}"]
                )
            keep = len(tensors) > 1 or entry.float32
            _assign(module, tensor.name.rpartition(".")[2], placed(value, value.dtype if keep else dtype, device))
            done += tensor.size_bytes
            if progress:
                progress(done, total)


def _replace_by_int4(modules: dict[str, nn.Module], name: str) -> Int4Linear:
    parent, _, attribute = name.rpartition(".")
    plain = modules[name]
    assert isinstance(plain, Linear)
    with torch.device("meta"):
        packed = Int4Linear(plain.columns, plain.rows)
    setattr(modules[parent], attribute, packed)
    return packed


def _assign(module: nn.Module, name: str, value: torch.Tensor) -> None:
    if name in module._parameters:
        setattr(module, name, nn.Parameter(value, requires_grad=False))
    else:
        setattr(module, name, value)
