"""Bytes that a forward pass needs besides weights and cache, from the configuration alone.

Input: ``ModelConfig``, rows of a forward batch, sequences. Output: bytes, as an upper bound in terms of
``shared/model/attention.py``, ``experts.py``, ``decoder.py`` and ``vision.py``. No device is asked.
"""

from shared.model.config import ModelConfig, TextConfig, VisionConfig

ELEMENT = 2
"""Bytes of a bfloat16."""
FLOAT = 4
BLOCK = 64
"""Keys that attention looks at together (``kernels/``)."""
PATCHES = 16_384
"""Of the largest image (``in_patch_limit`` of the released preprocessor)."""
RUNTIME_BYTES = 2**30
"""Allowance per device for what no formula gives: driver context, library workspaces, slack of the allocator."""


def everywhere(config: ModelConfig, rows: int) -> int:
    """On each device, T rows at once (a slice of a prefill, or one row of each decoding sequence):

    hidden     4 T D b                            residual, normalised, attention, mlp
    attention  T H (R + P) b                      queries, absorbed
               3 * 4 T H 64 + 2 * 4 T H R         scores, exponentials, mask; running sums, in float32
    mlp        T K D (b + 4) + 3 T I b            a row per chosen expert, summed in float32; gate, up, product
               D I_e (12 + b)                     one INT4 matrix: values, scales, product in float32, result
    runtime    1 GiB

    b = 2 bytes, D hidden size, H heads, R = kv_lora_rank, P, N, V head sizes, K experts per token, I_e the width of an
    expert, I the widest of expert, shared and dense block. The sum is an upper bound: attention and mlp are not alive
    together.
    """
    text = config.text
    hidden = 4 * rows * text.hidden_size * ELEMENT
    return hidden + _attention(text, rows) + _mlp(text, rows, packed=config.quantization is not None) + RUNTIME_BYTES


def first(config: ModelConfig) -> int:
    """On the device with the vision tower: N patches of C channels, the wider of attention (residual, normalised,
    q, k, v, rotated q and k, heads: 8 C) and mlp (residual, normalised, and I before and after GELU: 2 C + 2 I)."""
    return _vision(config.vision) if config.vision is not None else 0


def last(config: ModelConfig, sequences: int) -> int:
    """On the device with the head: logits of one row per sequence in float32, and their copy that sampling sorts."""
    return 2 * FLOAT * sequences * config.text.vocab_size


def _attention(text: TextConfig, rows: int) -> int:
    heads, rank = text.num_attention_heads, text.kv_lora_rank
    queries = rows * heads * (rank + text.qk_rope_head_dim) * ELEMENT
    return queries + 3 * FLOAT * rows * heads * BLOCK + 2 * FLOAT * rows * heads * rank


def _mlp(text: TextConfig, rows: int, *, packed: bool) -> int:
    inner = text.moe_intermediate_size
    widest = max(text.intermediate_size, inner * max(text.n_shared_experts, 1))
    chosen = rows * text.num_experts_per_tok * text.hidden_size * (ELEMENT + FLOAT)
    unpacked = text.hidden_size * inner * (3 * FLOAT + ELEMENT) if packed else 0
    return chosen + 3 * rows * widest * ELEMENT + unpacked


def _vision(vision: VisionConfig) -> int:
    size = vision.hidden_size
    return PATCHES * max(8 * size, 2 * size + 2 * vision.intermediate_size) * ELEMENT
