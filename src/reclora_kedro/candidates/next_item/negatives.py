"""Hard negatives: items that a retriever ranks high at the moment of each like."""

from dataclasses import replace

import numpy as np
import polars as pl
import torch

from reclora_kedro.candidates.next_item.base import Retriever
from reclora_kedro.candidates.next_item.reader import RetrieverReader
from reclora_kedro.history.log import InteractionLog


@torch.inference_mode()
def with_retrieved_negatives(log: InteractionLog, retriever: Retriever, first: int, seed: int) -> InteractionLog:
    """Replace the drawn negatives of the training and validation splits by items that a retriever ranks high.

    Each is drawn from the `first` items with the highest scores for the history that it shares with its like, without
    items that the user takes until the split ends; it stays unchanged if none is left. Rated samples and test samples
    stay.

    Raises:
        ValueError: no negative was drawn, or the log's negatives are impressions without a click.
    """
    random = np.random.default_rng(seed)
    own_item = pl.Series(log.sequences.item_index).gather(log.samples["event"])
    end = pl.col("event").max().over("user_index", "split") + 1
    learned = pl.col("split").is_in(["train", "validation"])
    behind_own = pl.col("event") == pl.col("event").shift()  # impressions come in the order of their items
    drawn = log.samples.with_columns(end=end, behind_own=behind_own)
    drawn = drawn.filter(learned, pl.col("item_index") != own_item, label=0)
    if drawn.is_empty() or not drawn["behind_own"].all():
        raise ValueError(
            f"lens.retrieved_negatives is {first}, but history drew no negatives that could be drawn anew: set "
            "history.negatives.kind to matched or uniform or, for a log of impressions, lens.retrieved_negatives to 0."
        )
    items, numbers = log.samples["item_index"].to_numpy(writable=True), drawn["row"].to_numpy()
    for rows, scores in RetrieverReader(retriever, log).blocks(drawn, drawn["end"].to_numpy()):
        best = scores.topk(min(first, scores.shape[1]))
        left = best.values.isfinite().sum(dim=1).cpu().numpy()
        place = (random.random(len(left)) * left).astype(np.int64)
        chosen = best.indices.cpu().numpy()[np.arange(len(left)), place]
        items[numbers[rows]] = np.where(left > 0, chosen, items[numbers[rows]])
    return replace(log, samples=log.samples.with_columns(item_index=pl.Series(items)))
