"""What the lens reads of its inputs: its scores when one of them is another row's."""

from dataclasses import replace

import numpy as np
import polars as pl
import torch
from torch import Tensor

from reclora_kedro.devices import choose_device
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens.base import History, Lens
from reclora_kedro.lens.features import LensLoader
from reclora_kedro.lens.training import SCORING_BATCH_SIZE

INPUTS = {
    "user": ("user",),
    "item": ("item",),
    "history": ("recent_history", "long_history"),
    "rating statistics": ("statistics",),
}
"""What is permuted together, as parts of a `LensBatch`, by the name in reports."""


@torch.inference_mode()
def permuted_scores(lens: Lens, log: InteractionLog, rows: np.ndarray) -> pl.DataFrame:
    """Scores of samples when one input after the other is that of the sample before; the label stays with the rest.

    Args:
        lens: a frozen lens.
        log: the log of the samples.
        rows: their row numbers, at random, shape (n,).

    Returns:
        Frame with row, label, input and score.
    """
    device = choose_device(lens.config.device)
    lens.to(device)
    read = [name for name in INPUTS if name != "rating statistics" or lens.config.rating_statistics]
    parts = []
    for places, batch in LensLoader(log, lens).batches(log.samples[rows], SCORING_BATCH_SIZE):
        batch, chosen = batch.to(device), log.samples[rows[places]].select("row", "label")
        for name in read:
            other = {part: _roll(getattr(batch, part)) for part in INPUTS[name]}
            score = torch.sigmoid(lens(replace(batch, **other)).double()).cpu().numpy()
            parts.append(chosen.with_columns(input=pl.lit(name), score=score))
    return pl.concat(parts)


def _roll(part: Tensor | History) -> Tensor | History:
    if isinstance(part, Tensor):
        return part.roll(1, dims=0)
    return History(*(tensor.roll(1, dims=0) for tensor in (part.item, part.rating, part.mask)))
