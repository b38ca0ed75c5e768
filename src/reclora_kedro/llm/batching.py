"""Batches of similar length under a token budget."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

logger = logging.getLogger(__name__)


def batches_by_length(lengths: Sequence[int] | np.ndarray, tokens_per_batch: int) -> list[np.ndarray]:
    """Split row numbers into batches of similar length, longest first, each within the token budget after padding.

    A row longer than the budget is a batch of its own.

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


class TokenBudget:
    """Maximum tokens per forward pass, padding included; halved whenever the GPU's memory is exceeded."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def run(
        self, rows: np.ndarray, lengths: np.ndarray, work: Callable[[np.ndarray], Any]
    ) -> Iterator[tuple[np.ndarray, Any]]:
        """Apply ``work`` to batches of similar length within the budget; yield each batch and its result.

        When memory is exceeded, the remaining rows continue in smaller batches, so work that raises must have changed
        nothing. MemoryError is raised for a single row that exceeds it.
        """
        pending = self._split(rows, lengths)
        while pending:
            batch, result, out_of_memory = pending[0], None, False
            try:
                result = work(batch)
            except torch.OutOfMemoryError as error:
                if len(batch) == 1:
                    raise MemoryError(
                        f"A single prompt of {lengths[batch[0]]} tokens exceeds the GPU's memory: "
                        "set gradient_checkpointing to true if this is training, lower prompt.max_tokens, set "
                        "`quantization` of the catalog entry `base_llm`, or choose a smaller base LLM."
                    ) from error
                out_of_memory = True
            if out_of_memory:  # outside the except block, so that the error no longer keeps tensors alive
                torch.cuda.empty_cache()
                self.tokens = len(batch) * int(lengths[batch].max()) // 2
                logger.warning(
                    "A batch of %d prompts exceeded the GPU's memory; from now on, at most %d tokens per batch. "
                    "Set tokens_per_batch to that number to start with it.",
                    len(batch),
                    self.tokens,
                )
                pending = self._split(np.concatenate(pending), lengths)
                continue
            del pending[0]
            yield batch, result

    def _split(self, rows: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
        return [rows[batch] for batch in batches_by_length(lengths[rows], self.tokens)]


def shuffled_batches(lengths: np.ndarray, batch_size: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Return one epoch of random batches of row numbers of similar length, to reduce padding.

    Rows are shuffled, sorted by length within pools of sixteen batches, cut into batches (the last one of a pool may be
    smaller), and the batches shuffled.
    """
    shuffled = generator.permutation(len(lengths))
    pool = batch_size * 16
    batches = []
    for start in range(0, len(shuffled), pool):
        rows = shuffled[start : start + pool]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def pad_right(token_ids: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Return prompts padded on the right with zeros, (batch, tokens), and the places of their last tokens, (batch,).

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


def mean_of_tokens(states: Tensor, last: Tensor) -> Tensor:
    """Average the states of right-padded texts up to their last tokens: (batch, tokens, hidden) to (batch, hidden).

    Examples:
        >>> mean_of_tokens(torch.tensor([[[1.0], [3.0], [9.0]]]), last=torch.tensor([1]))
        tensor([[2.]])
    """
    real = (torch.arange(states.shape[1], device=states.device) <= last[:, None]).unsqueeze(-1)
    return (states.float() * real).sum(1) / real.sum(1)
