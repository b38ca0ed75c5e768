"""Nodes of the lens step."""

from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from reclora_kedro.histories.sequences import Sequences
from reclora_kedro.lens.base import dump_lens, load_lens
from reclora_kedro.lens.config import LensConfig
from reclora_kedro.lens.training import fit_lens, rows_of, score_rows

Arrays = dict[str, np.ndarray]


def train_lens(
    samples: pl.DataFrame,
    sequences: Arrays,
    item_embeddings: Arrays,
    items: pl.DataFrame,
    users: pl.DataFrame,
    config: LensConfig,
) -> tuple[dict[str, Any], dict[str, Tensor], pl.DataFrame]:
    """The trained lens as config and weights, and its training log."""
    lens, log = fit_lens(samples, Sequences(**sequences), item_embeddings["embeddings"], items, users, config)
    return *dump_lens(lens), log


def compute_lens_states(
    samples: pl.DataFrame,
    sequences: Arrays,
    item_embeddings: Arrays,
    prompt_rows: pl.DataFrame,
    lens_config: dict[str, Any],
    lens_weights: dict[str, Tensor],
) -> tuple[dict[str, Tensor], pl.DataFrame]:
    """States of every kind that the lens has, with its logits, and scores of the prompt rows, in their order."""
    lens = load_lens(lens_config, lens_weights)
    rows = rows_of(lens, samples, Sequences(**sequences), item_embeddings["embeddings"])
    row = prompt_rows["row"].cast(pl.Int64).to_numpy()
    states, scores = score_rows(lens, rows, row)
    return {"row": torch.tensor(row), **states}, pl.DataFrame({"row": prompt_rows["row"], "score": scores.numpy()})
