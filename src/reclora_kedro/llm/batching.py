"""Batches of similar length under a token budget."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def batches_by_length(lengths: Sequence[int] | np.ndarray, tokens_per_batch: int) -> list[np.ndarray]:
    """Split rows into batches of similar length, longest first, each within the token budget after padding.

    A row longer than the budget is a batch of its own.

    Args:
        lengths: tokens of each row.
        tokens_per_batch: most tokens in a batch, padding included.

    Returns:
        Row numbers of each batch; together they are every row once.

    Examples:
        >>> [batch.tolist() for batch in batches_by_length([3, 9, 4, 8], tokens_per_batch=18)]
        [[1, 3], [2, 0]]
    """
    lengths = np.asarray(lengths)
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, tokens_per_batch // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches


def shuffled_batches(lengths: np.ndarray, rows_per_batch: int, generator: np.random.Generator) -> list[np.ndarray]:
    """One epoch of random batches whose rows are of similar length, so that little padding is needed.

    Rows are shuffled, sorted by length within pools of sixteen batches, cut into batches, and the batches shuffled.

    Args:
        lengths: tokens of each row.
        rows_per_batch: rows of each batch; the last may be smaller.
        generator: source of randomness.

    Returns:
        Row numbers of each batch; together they are every row once.
    """
    shuffled = generator.permutation(len(lengths))
    pool = rows_per_batch * 16
    batches = []
    for start in range(0, len(shuffled), pool):
        rows = shuffled[start : start + pool]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[i : i + rows_per_batch] for i in range(0, len(rows), rows_per_batch)]
    return [batches[i] for i in generator.permutation(len(batches))]


def pad_right(token_ids: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Stack prompts of different lengths, padded with zeros behind their last token.

    Args:
        token_ids: the prompts of a batch.
        device: where the tensors go.

    Returns:
        Token ids, shape (batch, tokens), and the position of each prompt's last token, shape (batch,).

    Examples:
        >>> pad_right([[5, 6, 7], [8]])
        (tensor([[5, 6, 7],
                [8, 0, 0]]), tensor([2, 0]))
    """
    lengths = [len(ids) for ids in token_ids]
    padded = np.zeros((len(lengths), max(lengths)), dtype=np.int64)
    for row, ids in enumerate(token_ids):
        padded[row, : len(ids)] = ids
    return torch.from_numpy(padded).to(device), torch.tensor(lengths, device=device) - 1
