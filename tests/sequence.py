"""One sequence fed to a text model in pieces, with a pool of its own."""

from collections.abc import Sequence

import torch
from torch import Tensor

from shared.model.batch import ForwardBatch, Segment
from shared.model.decoder import TextModel
from shared.model.pages import PAGE


def hidden_rows(text: TextModel, embedded: Tensor, cuts: Sequence[int] = (), *, offset: int = 0) -> Tensor:
    """Hidden states [T, D] of embeddings [T, D], in pieces that end at ``cuts``."""
    pages = -(-len(embedded) // PAGE)
    pool, rows = text.new_pool(pages), []
    for start, end in zip([0, *cuts], [*cuts, len(embedded)], strict=True):
        batch = ForwardBatch([Segment(start, end - start, range(pages))], text.device)
        rows.append(text(embedded[start:end], batch, pool, offset=offset))
    return torch.cat(rows)


def logits(text: TextModel, ids: Tensor, cuts: Sequence[int] = (), *, offset: int = 0) -> Tensor:
    """Logits [T, W] of ids [T]."""
    return text.logits(hidden_rows(text, text.embed(ids), cuts, offset=offset))
