"""Nodes of the lens step."""

from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from reclora_kedro.histories.feedback import FeedbackLog
from reclora_kedro.histories.sequences import Sequences
from reclora_kedro.lens.base import dump_lens, load_lens
from reclora_kedro.lens.config import LensConfig
from reclora_kedro.lens.crossfit import FewShotConfig, prompt_row_states
from reclora_kedro.lens.training import fit_lens, rows_of

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
    items: pl.DataFrame,
    prompt_rows: pl.DataFrame,
    lens_config: dict[str, Any],
    lens_weights: dict[str, Tensor],
    lens_training_log: pl.DataFrame,
    few_shot: FewShotConfig,
) -> tuple[dict[str, Tensor], pl.DataFrame, list[dict[str, Any]]]:
    """What gates read of the prompt rows, the lens's scores of them, and how sure it is of the few-shot rows.

    States and logits are the lens's; the statistics of feedback stand beside them.
    """
    lens = load_lens(lens_config, lens_weights)
    events = Sequences(**sequences)
    rows = rows_of(lens, samples, events, item_embeddings["embeddings"])
    states, report = prompt_row_states(lens, rows, samples, prompt_rows, lens_training_log, few_shot)
    states["feedback"] = torch.from_numpy(FeedbackLog(events, items).statistics(samples[states["row"].numpy()]))
    scores = torch.sigmoid(states["logit"].double())
    return states, pl.DataFrame({"row": prompt_rows["row"], "score": scores.numpy()}), report
