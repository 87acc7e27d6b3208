"""The numerics class: everything besides the request that may decide a bit of the answer (design principle 6).

Batch, slices, threads, cache hits and the split into processes are not in it: they decide nothing.
"""

import hashlib

import msgspec
import numpy as np
import torch

import kernels
from services.inference import sampling
from shared.model.checkpoint import Checkpoint


class NumericsClass(msgspec.Struct, frozen=True, kw_only=True):
    weights_digest: str
    kernels: str
    """Version and implementation."""
    sampling: str
    """Version, and that of the library whose exponentials it takes."""
    torch: str
    device: str
    """Instruction set of the CPU, or name of the GPU."""
    dtype: str

    @property
    def fingerprint(self) -> str:
        """Short name of the class, returned as ``system_fingerprint``."""
        return "mt-" + hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]


def numerics_class(checkpoint: Checkpoint) -> NumericsClass:
    """Of this process."""
    text = checkpoint.network.language_model
    gpu = text.device.type == "cuda"
    return NumericsClass(
        weights_digest=checkpoint.digest,
        kernels=f"{kernels.VERSION} {kernels.implementation()}",
        sampling=f"{sampling.VERSION} numpy {np.__version__}",
        torch=str(torch.__version__),
        device=torch.cuda.get_device_name(text.device) if gpu else torch.backends.cpu.get_cpu_capability(),
        dtype=str(text.dtype).removeprefix("torch."),
    )
