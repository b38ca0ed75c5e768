"""Tokenised prompts with the gate inputs of their samples, and padded batches on a device."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
import torch
from torch import Tensor

from kedro_provenance.errors import MismatchError
from reclora_kedro.gate_inputs import GateInputs
from reclora_kedro.llm.batching import pad_right


@dataclass(frozen=True)
class PromptBatch:
    """A padded batch of prompts on the LLM's device."""

    token_ids: Tensor  # right-padded prompts, shape (batch, tokens)
    last: Tensor  # position of each prompt's last token, shape (batch,)
    gate_inputs: GateInputs | None = None  # inputs of the gates and the lens's logits; None without an adapter


@dataclass(frozen=True)
class PromptSet:
    """Tokenised prompts with row numbers, labels (both of shape (prompts,)) and, for adapters, gate inputs."""

    rows: np.ndarray
    token_ids: list[list[int]]
    labels: np.ndarray
    gate_inputs: GateInputs | None = None

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(ids) for ids in self.token_ids])

    def take(self, places: np.ndarray) -> Self:
        gate_inputs = None if self.gate_inputs is None else self.gate_inputs.take(places)
        token_ids = [self.token_ids[place] for place in places]
        return type(self)(self.rows[places], token_ids, self.labels[places], gate_inputs)

    def batch(self, rows: Iterable[int], device: torch.device) -> PromptBatch:
        index = list(rows)
        gate_inputs = None if self.gate_inputs is None else self.gate_inputs.take(index).to(device)
        return PromptBatch(*pad_right([self.token_ids[row] for row in index], device), gate_inputs)


def prompt_set(prompts: pl.DataFrame, use: str, gate_inputs: GateInputs | None = None) -> PromptSet:
    """Return the prompts of one use (``few_shot``, ``validation``, ``test``, ``candidate``) with their gate inputs.

    `prompts` has row, use, label and token_ids; `gate_inputs` are of at least these rows, in any order.

    MismatchError is raised for a row without gate input, ValueError where there are no prompts of that use.
    """
    selected = prompts.filter(pl.col("use") == use)
    if selected.is_empty():
        raise ValueError(f"There are no prompts with use {use!r}: raise history.prompt_rows.{use} above 0.")
    rows, token_ids, labels = selected["row"].to_numpy(), selected["token_ids"].to_list(), selected["label"].to_numpy()
    if gate_inputs is None:
        return PromptSet(rows, token_ids, labels)
    position = {row: i for i, row in enumerate(gate_inputs.rows.tolist())}
    missing = [row for row in selected["row"] if row not in position]
    if missing:
        raise MismatchError(
            f"{len(missing)} prompts with use {use!r} have no gate input, the first is that of row {missing[0]}: "
            "prompts and gate inputs stem from different runs.",
            "gate_inputs",
        )
    return PromptSet(rows, token_ids, labels, gate_inputs.take([position[row] for row in selected["row"]]))
