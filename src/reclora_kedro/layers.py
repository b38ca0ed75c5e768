"""Layers that lenses and retrievers share: embeddings by index, causal attention, the last event."""

import torch
from torch import Tensor, nn

INITIAL_EMBEDDING_STD = 0.05


def embedding_table(rows: int, dim: int) -> nn.Embedding:
    """Return an embedding table with small initial values, so that rare ids stay near the unknown one."""
    table = nn.Embedding(rows, dim)
    nn.init.normal_(table.weight, std=INITIAL_EMBEDDING_STD)
    return table


def distinct_indices(index: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the distinct values of an index tensor, ascending, and the position of each entry among them.

    It equals `index.unique(return_inverse=True)` for indices below `count`, but marks them in a table of all items
    instead of sorting them, which is faster for the many events of a batch.

    Examples:
        >>> distinct_indices(torch.tensor([[7, 2], [2, 4]]), count=9)
        (tensor([2, 4, 7]), tensor([[2, 0],
                [0, 1]]))
    """
    present = torch.zeros(count, dtype=torch.bool, device=index.device)
    present[index.flatten()] = True
    return present.nonzero().squeeze(1), (present.cumsum(0) - 1)[index]


def transformer_blocks(count: int, width: int, heads: int, feedforward: int, dropout: float) -> nn.ModuleList:
    """Return blocks of self-attention over events, for `read_causally`."""
    return nn.ModuleList(
        nn.TransformerEncoderLayer(width, heads, feedforward, dropout, batch_first=True, norm_first=True)
        for _ in range(count)
    )


def read_causally(blocks: nn.ModuleList, events: Tensor) -> Tensor:
    """Apply the blocks with causal attention: (batch, length, width)."""
    causal = nn.Transformer.generate_square_subsequent_mask(events.shape[1], device=events.device)
    for block in blocks:
        events = block(events, src_mask=causal, is_causal=True)
    return events


def last_event(states: Tensor, mask: Tensor) -> Tensor:
    """Return the state of the last unmasked event, zero without any: (batch, length, dim) to (batch, dim)."""
    place = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(dim=1)
    last = states[torch.arange(len(states), device=states.device), (place - 1).clamp(min=0)]
    return last * (place > 0).view(-1, *[1] * (states.ndim - 2))
