"""The mixture of experts: sigmoid router, routed experts, shared expert, and the SwiGLU block that all of them are.

Source: DeepSeek-V3, arXiv 2412.19437, section 2.1.2 (auxiliary-loss-free balancing), eq. 12 to 16.
Letters: T tokens, D hidden size, E experts, K chosen experts per token.
"""

import torch
from torch import Tensor, nn

from shared.model.config import TextConfig
from shared.model.linear import AnyLinear, Linear


class SwiGLU(nn.Module):
    """down(silu(gate x) * up x), arXiv 2002.05202."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.gate_proj: AnyLinear = Linear(hidden, inner)
        self.up_proj: AnyLinear = Linear(hidden, inner)
        self.down_proj: AnyLinear = Linear(inner, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Router(nn.Module):
    """Scores are sigmoids in float32; the correction bias moves the choice and never the weights."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.n_routed_experts, config.hidden_size), requires_grad=False)
        self.register_buffer("e_score_correction_bias", torch.empty(config.n_routed_experts))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Weights [T, K] float32 and experts [T, K] int64, best choice first, the lower expert first on a tie."""
        scores = (x.float() @ self.weight.float().T).sigmoid()  # [T, E]
        choice = scores + self.get_buffer("e_score_correction_bias").float()
        experts = choice.sort(dim=-1, descending=True, stable=True).indices[:, : self.config.num_experts_per_tok]
        weights = scores.gather(1, experts)  # [T, K]
        if self.config.norm_topk_prob:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        return weights * self.config.routed_scaling_factor, experts


class MixtureOfExperts(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        inner = config.moe_intermediate_size
        self.gate = Router(config)
        self.experts = nn.ModuleList(SwiGLU(config.hidden_size, inner) for _ in range(config.n_routed_experts))
        self.shared_experts = (
            SwiGLU(config.hidden_size, inner * config.n_shared_experts) if config.n_shared_experts else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """[T, D] to [T, D]: one row per (token, expert), summed in router order; the shared expert comes unscaled."""
        weights, experts = self.gate(x)  # [T, K] each
        rows = torch.empty(*experts.shape, x.shape[-1], dtype=x.dtype, device=x.device)  # [T, K, D]
        for expert in experts.unique().tolist():
            token, slot = (experts == expert).nonzero(as_tuple=True)
            rows[token, slot] = self.experts[expert](x[token])
        mixed = (rows.float() * weights.unsqueeze(-1)).sum(dim=1).to(x.dtype)  # [T, D]
        return mixed if self.shared_experts is None else mixed + self.shared_experts(x)
