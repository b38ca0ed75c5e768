"""The log of canonical tables by plain loops: what `build_log` has to make, and small logs for tests."""

from bisect import bisect_left
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import polars as pl

from reclora_kedro.histories.log import InteractionLog, numbered
from reclora_kedro.histories.negatives import NegativesConfig, Pool, draw_negatives
from reclora_kedro.histories.sequences import Sequences, rating_levels
from reclora_kedro.histories.splits import SplitConfig
from reclora_kedro.histories.taken_items import TakenItems

SCHEMA = {
    "user_index": pl.Int32,
    "item_index": pl.Int32,
    "label": pl.Int8,
    "timestamp": pl.Int64,
    "event": pl.Int64,
    "history_end": pl.Int64,
}


def reference_log(
    interactions: pl.DataFrame,
    items: pl.DataFrame,
    users: pl.DataFrame,
    min_history: int = 0,
    ties: str = "strict",
    split: SplitConfig | None = None,
    levels: Any = None,
) -> InteractionLog:
    """The log of interactions in any order, without drawn negatives; it may have no samples.

    Args:
        interactions, items, users: the canonical tables.
        min_history: earlier events that a sample needs.
        ties: strict or order.
        split: how samples are divided; None: they have no split, and rating levels rank all ratings.
        levels: as in `history.rating_levels`.
    """
    user_index, item_index = ({name: row for row, name in enumerate(table.to_series())} for table in (users, items))
    rows = [
        row | {"user": user_index[row["user_id"]], "item": item_index[row["item_id"]]}
        for row in interactions.sort("timestamp", "user_id", "item_id").iter_rows(named=True)
    ]
    events = sorted((row for row in rows if row["rating"] is not None), key=lambda row: row["user"])
    own: dict[int, list[int]] = defaultdict(list)
    for row in events:
        own[row["user"]].append(row["timestamp"])
    offsets = np.cumsum([0] + [len(own[user]) for user in range(users.height)])
    has_impressions = any(row["rating"] is None or row["label"] is None for row in rows)
    samples, places = [], Counter[int]()
    for row in rows:
        user, times = row["user"], own[row["user"]]
        strictly, place = bisect_left(times, row["timestamp"]), places[user]
        places[user] += row["rating"] is not None
        earlier = strictly if has_impressions else place
        if row["rating"] is None:
            place = strictly if row["timestamp"] in times[strictly : strictly + 1] else None
        if row["label"] is not None and earlier >= min_history:
            end = place if ties == "order" else strictly
            start = int(offsets[user])
            event = None if place is None else start + place
            samples.append((user, row["item"], row["label"], row["timestamp"], event, start + end))
    frame = pl.DataFrame(samples, schema=SCHEMA, orient="row")
    rating = np.array([row["rating"] for row in events], dtype=np.float32)
    training = rating
    if split is not None:
        units = [sample[::3][:2] if has_impressions else row for row, sample in enumerate(samples)]
        by_unit = splits_of_units(dict.fromkeys(units), [unit[0] for unit in samples], units, split)
        frame = frame.with_columns(split=pl.Series([by_unit[unit] for unit in units], dtype=pl.String))
        training = rating[frame.filter(split="train")["event"].drop_nulls().unique().to_numpy()]
    sequences = Sequences(
        offsets=offsets,
        item_index=np.array([row["item"] for row in events], dtype=np.int32),
        rating=rating,
        rating_level=rating_levels(rating, training, levels),
        label=np.array([1 if row["label"] is None else row["label"] for row in events], dtype=np.int8),
        timestamp=np.array([row["timestamp"] for row in events], dtype=np.int64),
    )
    return InteractionLog(items, users, sequences, numbered(frame))


def add_negatives(log: InteractionLog, config: NegativesConfig, seed: int) -> pl.DataFrame:
    """The samples of a log with drawn negatives, each behind its positive."""
    pool = Pool.from_events(log.sequences.item_index, log.sequences.timestamp, config.kind)
    samples = draw_negatives(log.samples, pool, TakenItems.from_sequences(log.sequences), config, seed)
    return numbered(samples.sort("row", maintain_order=True).drop("row"))


def splits_of_units(
    ordered: dict[Any, None], owners: list[int], units: list[Any], config: SplitConfig
) -> dict[Any, str]:
    """The split of each unit, which is a sample or the samples of an impression, in the order of time."""
    owner = dict(zip(units, owners, strict=True))
    later = Counter(owner[unit] for unit in ordered)
    train_end = int(config.train * len(ordered))
    validation_end = train_end + int(config.validation * len(ordered))
    splits = {}
    for number, unit in enumerate(ordered):
        later[owner[unit]] -= 1
        if config.kind == "global_time":
            trains, validates = number < train_end, number < validation_end
        else:
            trains, validates = later[owner[unit]] > 1, later[owner[unit]] == 1
        splits[unit] = "train" if trains else "validation" if validates else "test"
    return splits
