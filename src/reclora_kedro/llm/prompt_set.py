"""Tokenised prompts with what an adapter needs of their samples, and batches of them on a device."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
import torch
from torch import Tensor

from reclora_kedro.errors import MismatchError
from reclora_kedro.llm.batching import pad_right


@dataclass(frozen=True)
class PromptBatch:
    """What the LLM reads of some prompts, on its device.

    Attributes:
        token_ids: right-padded prompts, shape (batch, tokens).
        last: position of each prompt's last token, shape (batch,).
        gate_inputs: what the gates of a personalized adapter read, shape (batch, gate_dim); None without an adapter.
        lens_logits: the lens's own logits, shape (batch,), for adapters whose score they join.
        log_counts: logarithms of the numbers of events of item and user, shape (batch, 2), for those that stack.
    """

    token_ids: Tensor
    last: Tensor
    gate_inputs: Tensor | None = None
    lens_logits: Tensor | None = None
    log_counts: Tensor | None = None


@dataclass(frozen=True)
class PromptSet:
    """Tokenised prompts with labels and, for personalized adapters, what the gates read and the lens's logits.

    ``rows``, ``labels`` and ``lens_logits`` have shape (prompts,); ``gate_inputs`` has shape (prompts, gate_dim),
    ``log_counts`` (prompts, 2).
    """

    rows: np.ndarray
    token_ids: list[list[int]]
    labels: np.ndarray
    gate_inputs: Tensor | None = None
    lens_logits: Tensor | None = None
    log_counts: Tensor | None = None

    @property
    def of_lens(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """What stems from the lens: gate inputs, logits and counts."""
        return self.gate_inputs, self.lens_logits, self.log_counts

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each prompt."""
        return np.array([len(ids) for ids in self.token_ids])

    def take(self, places: np.ndarray) -> Self:
        """The prompts at these places."""
        of_lens = (None if part is None else part[places] for part in self.of_lens)
        token_ids = [self.token_ids[place] for place in places]
        return type(self)(self.rows[places], token_ids, self.labels[places], *of_lens)

    def batch(self, rows: Iterable[int], device: torch.device) -> PromptBatch:
        """Some of the prompts, padded."""
        index = list(rows)
        of_lens = (None if part is None else part[index].to(device) for part in self.of_lens)
        return PromptBatch(*pad_right([self.token_ids[row] for row in index], device), *of_lens)


def gate_input_of(gate_inputs: dict[str, Tensor]) -> str:
    """Name of the input that a table of gate inputs holds.

    Examples:
        >>> gate_input_of({"row": torch.tensor([5]), "lens_logit": torch.zeros(1), "target": torch.zeros(1, 128)})
        'target'
    """
    [name] = gate_inputs.keys() - {"row", "lens_logit", "log_counts"}
    return name


def prompt_set(prompts: pl.DataFrame, use: str, gate_inputs: dict[str, Tensor] | None = None) -> PromptSet:
    """The prompts of one use, with the gate inputs and lens logits of their rows.

    Args:
        prompts: frame with row, use, label and token_ids.
        use: ``few_shot``, ``validation``, ``stacking``, ``test`` or ``candidate``.
        gate_inputs: ``row``, shape (n,), ``lens_logit``, shape (n,), ``log_counts``, shape (n, 2), where the lens reads
            them, and by its name what gates read, shape (n, gate_dim); None for none of it.

    Raises:
        MismatchError: a prompt's row has no gate input.
        ValueError: there are no prompts of that use.
    """
    chosen = prompts.filter(pl.col("use") == use)
    if chosen.is_empty():
        raise ValueError(f"There are no prompts with use {use!r}: raise history.prompt_rows.{use} above 0.")
    rows, token_ids, labels = chosen["row"].to_numpy(), chosen["token_ids"].to_list(), chosen["label"].to_numpy()
    if gate_inputs is None:
        return PromptSet(rows, token_ids, labels)
    place = {row: i for i, row in enumerate(gate_inputs["row"].tolist())}
    missing = [row for row in chosen["row"] if row not in place]
    if missing:
        raise MismatchError(
            f"{len(missing)} prompts with use {use!r} have no gate input, the first is that of row {missing[0]}: "
            "prompts and gate inputs stem from different runs.",
            "gate_inputs",
        )
    places = [place[row] for row in chosen["row"]]
    inputs, counts = gate_inputs[gate_input_of(gate_inputs)], gate_inputs.get("log_counts")
    counts = None if counts is None else counts[places]
    return PromptSet(rows, token_ids, labels, inputs[places], gate_inputs["lens_logit"][places], counts)
