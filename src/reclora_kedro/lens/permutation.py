"""Permutation importance of the inputs of a lens."""

import math
from collections.abc import Collection
from dataclasses import replace

import polars as pl
import torch
from torch import Tensor

from reclora_kedro.devices import choose_device
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.lens.base import History, Lens
from reclora_kedro.lens.features import SCORING_BATCH_SIZE, LensLoader

INPUTS = {
    "user": ("user",),
    "item": ("item",),
    "history": ("recent_history", "long_history"),
    "rating statistics": ("statistics",),
}
"""Parts of a `LensBatch` that are permuted together, by name in reports."""


@torch.inference_mode()
def permuted_scores(
    lens: Lens, log: InteractionLog, questions: pl.DataFrame, inputs: Collection[str] = tuple(INPUTS)
) -> pl.DataFrame:
    """Score labelled questions with one input at a time taken from the previous question of the batch.

    Questions are in random order, and batches have about equal sizes, so that none has a single one. Of the `INPUTS`
    named, those that the lens does not have are skipped. The frame has row, label, input and score.
    """
    device = choose_device(lens.config.device)
    lens.to(device)
    read = [name for name in INPUTS if name in inputs]
    if not lens.config.rating_statistics:
        read = [name for name in read if name != "rating statistics"]
    parts = [questions.select("row", "label", input=pl.lit(""), score=pl.lit(0.0)).clear()]
    count = questions.height
    size = math.ceil(count / max(1, math.ceil(count / SCORING_BATCH_SIZE))) or 1
    for places, batch in LensLoader(log, lens).batches(questions, size):
        batch, chosen = batch.to(device), questions[places].select("row", "label")
        for name in read:
            other = {part: _roll(getattr(batch, part)) for part in INPUTS[name]}
            score = torch.sigmoid(lens(replace(batch, **other)).double()).cpu().numpy()
            parts.append(chosen.with_columns(input=pl.lit(name), score=score))
    return pl.concat(parts)


def _roll(part: Tensor | History) -> Tensor | History:
    if isinstance(part, Tensor):
        return part.roll(1, dims=0)
    return part.map(lambda tensor: tensor.roll(1, dims=0))
