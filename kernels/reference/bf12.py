"""bf12, bfloat16 in twelve bits without loss, as ``cpu/jobs.h`` draws it: plain and slow.

Input and output: blocks of panels, [pairs of columns, 4 panels, 32 words] bfloat16, and their bytes.
"""

import torch
from torch import Tensor

from kernels.formats import BF12_CODES, BF12_HEAD_BYTES

HALF = 64
"""Words of two panels."""


def pack_bf12_ref(block: Tensor, first: int = 0) -> tuple[Tensor, Tensor]:
    """Bytes of the block, and high bytes without a code; ``first`` of these lie in front of them."""
    low, high = block.contiguous().view(torch.uint8).unflatten(-1, (-1, 2)).unbind(-1)  # [pairs, 4, 32] each
    table = _table(high)
    code_of = torch.zeros(256, dtype=torch.uint8)
    code_of[table[1:].long()] = torch.arange(1, BF12_CODES, dtype=torch.uint8)
    codes, spelled = _halves(code_of[high.long()]), _halves(high)
    nibbles = codes[:, 0] | codes[:, 1] << 4
    pairs = torch.cat((_halves(low).flatten(1), nibbles), dim=1)
    return torch.cat((_head(table, first), pairs.flatten())), spelled[codes == 0]


def unpack_bf12_ref(packed: Tensor, spare: Tensor) -> Tensor:
    """What ``pack_bf12_ref`` was given; ``spare`` begins with the block's own bytes."""
    table, pairs = packed[:BF12_CODES], packed[BF12_HEAD_BYTES:].view(-1, 3, HALF)
    low, nibbles = pairs[:, :2], pairs[:, 2]
    codes = torch.stack((nibbles & 15, nibbles >> 4), dim=1)  # [pairs, 2, 64]
    high = table[codes.long()]
    high[codes == 0] = spare[: int((codes == 0).sum())]
    words = torch.stack((_panels(low), _panels(high)), dim=-1)
    return words.flatten(-2).view(torch.bfloat16)


def _table(high: Tensor) -> Tensor:
    """[16]: nothing for code 0, then the commonest bytes, the smaller one first when two are alike."""
    counts = high.flatten().long().bincount(minlength=256)
    commonest = counts.sort(descending=True, stable=True).indices[: BF12_CODES - 1]
    return torch.cat((torch.zeros(1), commonest)).to(torch.uint8)


def _head(table: Tensor, first: int) -> Tensor:
    head = torch.zeros(BF12_HEAD_BYTES, dtype=torch.uint8)
    head[:BF12_CODES] = table
    head[BF12_CODES : BF12_CODES + 8] = torch.tensor([first]).view(torch.uint8)
    return head


def _halves(panels: Tensor) -> Tensor:
    """[pairs, 4, 32] to [pairs, 2, 64]: eight words of one panel, eight of the next, the next eight of both."""
    return panels.view(-1, 2, 2, 4, 8).transpose(2, 3).flatten(2)


def _panels(halves: Tensor) -> Tensor:
    return halves.reshape(-1, 2, 4, 2, 8).transpose(2, 3).reshape(-1, 4, 32)
