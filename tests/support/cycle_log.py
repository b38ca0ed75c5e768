"""A log in which the next item follows from the last one."""

from dataclasses import replace

import numpy as np
import polars as pl

from reclora_kedro.history.splits import SplitConfig
from reference_log import reference_log

USERS, ITEMS, EVENTS = 40, 24, 12


def cycle_log(kind="global_time", interactions=None):
    """Users walk round the items; the last item has no event in the training split, but a text."""
    user = np.repeat(np.arange(USERS), EVENTS)
    step = np.tile(np.arange(EVENTS), USERS)
    if interactions is None:
        interactions = pl.DataFrame(
            {
                "user_id": user,
                "item_id": (user * 7 + step) % (ITEMS - 1),
                "rating": 5.0,
                "timestamp": step * 100 + user + 1,
                "label": pl.Series(np.ones(len(user)), dtype=pl.Int8),
            }
        )
    items = pl.DataFrame({"item_id": range(ITEMS), "title": [f"Item {i}" for i in range(ITEMS)]})
    split = SplitConfig(kind=kind, train=0.7, validation=0.15)
    log = reference_log(interactions, items, pl.DataFrame({"user_id": range(USERS)}), min_history=1, split=split)
    angle = 2 * np.pi * np.outer(np.arange(ITEMS), [1, 2, 3]) / ITEMS
    return log.with_embeddings(np.hstack([np.cos(angle), np.sin(angle)]))


def catalogue_scores(reader, moments):
    """Scores of all items at moments by a `RetrieverReader`, (moments, items)."""
    return np.concatenate([block.cpu().numpy() for _, block in reader.blocks(moments)])


def changed(log, **columns):
    """The log with other columns of its sequences."""
    return replace(log, sequences=replace(log.sequences, **columns))
