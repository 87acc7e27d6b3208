"""Number formats and the operations on them. Imports torch and nothing of ours; does no input or output.

The operations are those of ``kernels.dispatch``, reached as ``kernels.linear`` and so on; they are looked up on first
use, so that what only needs formats runs without torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernels.dispatch import (
        draw,
        experts,
        holds_bf12,
        implementation,
        latent_attention,
        linear,
        linear_heads,
        load,
        prepare_experts,
        prepare_heads,
        prepare_linear,
        rms_norm,
        rotate,
        router_scores,
        set_threads,
        threads,
        weighted_sum,
        whole_layer,
    )

VERSION = "3"
"""Part of every numerics class: raised whenever an operation may give other bits than before."""

__all__ = [
    "VERSION",
    "draw",
    "experts",
    "holds_bf12",
    "implementation",
    "latent_attention",
    "linear",
    "linear_heads",
    "load",
    "prepare_experts",
    "prepare_heads",
    "prepare_linear",
    "rms_norm",
    "rotate",
    "router_scores",
    "set_threads",
    "threads",
    "weighted_sum",
    "whole_layer",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'kernels' has no attribute {name!r}")
    from kernels import dispatch

    return getattr(dispatch, name)
