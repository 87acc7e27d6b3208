"""The mixture of experts: sigmoid router, routed experts, shared expert, and the SwiGLU block that all of them are.

Source: DeepSeek-V3, arXiv 2412.19437, section 2.1.2 (auxiliary-loss-free balancing), eq. 12 to 16.
Letters: T rows, D hidden size, E experts, K chosen experts per row.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kernels import dispatch
from kernels.weights import Done, ExpertWeights, LinearWeight, keep
from shared.model.config import TextConfig
from shared.model.linear import AnyLinear, Linear, Prepared


class SwiGLU(Prepared[ExpertWeights]):
    """down(silu(gate x) * up x), arXiv 2002.05202: an expert that every row has chosen."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.gate_proj: AnyLinear = Linear(hidden, inner)
        self.up_proj: AnyLinear = Linear(hidden, inner)
        self.down_proj: AnyLinear = Linear(inner, hidden)

    def lay_out(self, done: Done = keep) -> ExpertWeights:
        return together([self], done)

    def forward(self, x: Tensor) -> Tensor:
        chosen = torch.zeros(len(x), 1, dtype=torch.int64, device=x.device)
        return dispatch.experts(x, chosen, self.ready).squeeze(1)


def together(blocks: Sequence[SwiGLU], done: Done) -> ExpertWeights:
    """The blocks as one weight of the kernels, in their order."""
    return dispatch.prepare_experts(
        [block.gate_proj.matrix for block in blocks],
        [block.up_proj.matrix for block in blocks],
        [block.down_proj.matrix for block in blocks],
        done,
    )


class Router(Prepared[LinearWeight]):
    """Scores are sigmoids in float32; the correction bias moves the choice and never the weights."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.n_routed_experts, config.hidden_size), requires_grad=False)
        self.register_buffer("e_score_correction_bias", torch.empty(config.n_routed_experts))

    def lay_out(self, done: Done = keep) -> LinearWeight:
        laid_out = dispatch.prepare_linear(self.weight)
        done(self.weight)
        return laid_out

    def prepare(self, done: Done = keep) -> None:
        super().prepare(done)
        self.weight = nn.Parameter(self.weight.to("meta"), requires_grad=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Weights [T, K] float32 and experts [T, K] int64, best choice first, the lower expert first on a tie."""
        scores = dispatch.router_scores(x, self.ready)  # [T, E]
        choice = scores + self.get_buffer("e_score_correction_bias")
        experts = choice.sort(dim=-1, descending=True, stable=True).indices[:, : self.config.num_experts_per_tok]
        weights = scores.gather(1, experts)  # [T, K]
        if self.config.norm_topk_prob:
            weights = weights / (self._sum(weights) + 1e-20)
        return weights * self.config.routed_scaling_factor, experts

    @staticmethod
    def _sum(weights: Tensor) -> Tensor:
        """[T, 1], in router order: torch would choose the order by T."""
        return dispatch.weighted_sum(weights.unsqueeze(-1), torch.ones_like(weights))


class MixtureOfExperts(Prepared[ExpertWeights]):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        inner = config.moe_intermediate_size
        self.gate = Router(config)
        self.experts = nn.ModuleList(SwiGLU(config.hidden_size, inner) for _ in range(config.n_routed_experts))
        self.shared_experts = (
            SwiGLU(config.hidden_size, inner * config.n_shared_experts) if config.n_shared_experts else None
        )
        self._first = 0

    def lay_out(self, done: Done = keep) -> ExpertWeights:
        """Of the routed experts that are here; they are consecutive (``Part.experts``)."""
        blocks = [block for block in self.experts if isinstance(block, SwiGLU)]
        here = [index for index, block in enumerate(blocks) if not _is_elsewhere(block)]
        self._first = here[0]
        return together([blocks[index] for index in here], done)

    def prepare(self, done: Done = keep) -> None:
        self.gate.prepare(done)
        if self.shared_experts is not None:
            self.shared_experts.prepare(done)
        super().prepare(done)

    def forward(self, x: Tensor) -> Tensor:
        """[T, D] to [T, D]: one row per (row, expert), summed in router order; the shared expert comes unscaled."""
        weights, experts = self.gate(x)  # [T, K] each
        mixed = dispatch.weighted_sum(self.routed(x, experts), weights)
        return mixed if self.shared_experts is None else mixed + self.shared_experts(x)

    @property
    def is_complete(self) -> bool:
        """Every expert is in this process."""
        return self.ready.gate_up.count == len(self.experts)

    def routed(self, x: Tensor, experts: Tensor) -> Tensor:
        """Rows [T, K, D] of experts [T, K] that are here."""
        held = self.ready
        return dispatch.experts(x, experts - self._first if self._first else experts, held)


def _is_elsewhere(block: SwiGLU) -> bool:
    return next(iter(block.down_proj.state_dict().values())).is_meta
