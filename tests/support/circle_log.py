"""A log in which each item is followed by the next one of a circle."""

from dataclasses import replace

import numpy as np
import polars as pl

from reclora_kedro.history.log import InteractionLog
from reference_log import reference_log


def circle_log(seed: int = 0) -> InteractionLog:
    """The log of 150 users with five events each, of which the last one tests and the one before validates."""
    random = np.random.default_rng(seed)
    first = random.integers(0, 20, size=150)
    interactions = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(150), 5),
            "item_id": ((first[:, None] + np.arange(5)) % 20).ravel(),
            "rating": 5.0,
            "timestamp": np.tile(np.arange(5), 150),
            "label": pl.Series(np.ones(750), dtype=pl.Int8),
        }
    )
    items = pl.DataFrame({"item_id": range(21), "title": [f"Film {'abc'[item % 3]}" for item in range(21)]})
    log = reference_log(interactions, items, pl.DataFrame({"user_id": range(150)}), min_history=1)
    place = pl.col("timestamp")
    split = pl.when(place == 4).then(pl.lit("test")).when(place == 3).then(pl.lit("validation"))
    return replace(log, samples=log.samples.with_columns(split=split.otherwise(pl.lit("train"))))
