"""The log of canonical tables by plain loops: what `build_log` has to make, and small logs for tests."""

from bisect import bisect_left
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import polars as pl

from reclora_kedro.history.config import NegativesConfig
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.negatives import Pool, draw_negatives
from reclora_kedro.history.sequences import Sequences, rating_levels
from reclora_kedro.history.splits import SPLITS, SplitConfig
from reclora_kedro.history.taken_items import TakenItems

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
    seed: int = 0,
) -> InteractionLog:
    """The log of interactions in any order of time, without drawn negatives; it may have no samples.

    Args:
        interactions, items, users: the canonical tables.
        min_history: earlier events that a sample needs.
        ties: strict or order.
        split: how samples are divided; None: they have no split, and rating levels rank all ratings.
        levels: as in `history.rating_levels`.
        seed: of the order within a moment, where ties are strict.
    """
    user_index, item_index = ({name: row for row, name in enumerate(table.to_series())} for table in (users, items))
    within_moment = [pl.struct("timestamp", "user_id", "item_id").hash(seed)] if ties == "strict" else []
    ordered = interactions.sort("timestamp", "user_id", *within_moment, maintain_order=True)
    rows = [
        row | {"user": user_index[row["user_id"]], "item": item_index[row["item_id"]]}
        for row in ordered.iter_rows(named=True)
    ]
    events = sorted((row for row in rows if row["rating"] is not None), key=lambda row: row["user"])
    own: dict[int, list[int]] = defaultdict(list)
    for row in events:
        own[row["user"]].append(row["timestamp"])
    offsets = np.cumsum([0] + [len(own[user]) for user in range(users.height)])
    samples, places = [], Counter[int]()
    for row in rows:
        user, times = row["user"], own[row["user"]]
        strictly, place = bisect_left(times, row["timestamp"]), places[user]
        places[user] += row["rating"] is not None
        if row["rating"] is None:
            place = strictly if row["timestamp"] in times[strictly : strictly + 1] else None
        end = place if ties == "order" else strictly
        if row["label"] is not None and end >= min_history:
            start = int(offsets[user])
            event = None if place is None else start + place
            samples.append((user, row["item"], row["label"], row["timestamp"], event, start + end))
    frame = pl.DataFrame(samples, schema=SCHEMA, orient="row")
    rating = np.array([row["rating"] for row in events], dtype=np.float32)
    training = rating
    if split is not None:
        places = [sample[4 if ties == "order" and split.kind == "per_user_last_out" else 3] for sample in samples]
        splits = splits_of([sample[0] for sample in samples], places, split)
        frame = frame.with_columns(split=pl.Series(splits, dtype=SPLITS))
        training = rating[frame.filter(split="train")["event"].drop_nulls().unique().to_numpy()]
    sequences = Sequences(
        offsets=offsets,
        item_index=np.array([row["item"] for row in events], dtype=np.int32),
        rating=rating,
        rating_level=rating_levels(rating, training, levels),
        label=np.array([1 if row["label"] is None else row["label"] for row in events], dtype=np.int8),
        timestamp=np.array([row["timestamp"] for row in events], dtype=np.int64),
    )
    return InteractionLog(items, users, sequences, frame.with_row_index("row"))


def add_negatives(
    log: InteractionLog, config: NegativesConfig, seed: int, samples: pl.DataFrame | None = None
) -> pl.DataFrame:
    """The samples of a log, or some of them, with drawn negatives, each behind its positive."""
    sequences, pools = log.sequences, {}
    likes, first = defaultdict(list), dict[int, int]()
    ends: dict[str, np.ndarray] = defaultdict(sequences.offsets[:-1].copy)
    for row in log.samples.iter_rows(named=True):
        user, split = row["user_index"], row["split"]
        ends[split][user] = row["event"] + 1
        if (
            row["label"] == 1
            and row["item_index"] not in sequences.item_index[sequences.offsets[user] : row["history_end"]]
        ):
            likes[split].append((row["item_index"], row["timestamp"]))
    for item, second in zip(sequences.item_index.tolist(), sequences.timestamp.tolist(), strict=True):
        first[item] = min(first.get(item, second), second)
    for split in ends:
        pool = likes[split] if config.kind == "matched" else sorted(first.items(), key=lambda pair: (pair[1], pair[0]))
        items, seconds = np.array(pool, dtype=np.int64).reshape(-1, 2).T
        pools[split] = Pool(items, seconds, ends[split])
    samples = log.samples if samples is None else samples
    samples = draw_negatives(samples, pools, TakenItems.from_sequences(sequences), config, seed)
    return samples.sort("row", maintain_order=True).drop("row").with_row_index("row")


def splits_of(users: list[int], seconds: list[int], config: SplitConfig) -> list[str]:
    """The split of each sample, of which the seconds, or a user's last out in order the events, are ascending."""
    names = ["train", "validation", "test"]
    if config.kind == "per_user_last_out":
        own: dict[int, list[int]] = defaultdict(list)
        for user, second in dict.fromkeys(zip(users, seconds, strict=True)):
            own[user].append(second)
        later = [len(own[user]) - 1 - own[user].index(second) for user, second in zip(users, seconds, strict=True)]
        return [names[2 - min(moments, 2)] for moments in later]
    train_end = int(config.train * len(seconds))
    bounds = train_end, train_end + int(config.validation * len(seconds))
    first, count = {t: row for row, t in reversed(list(enumerate(seconds)))}, Counter(seconds)
    # A moment is behind a bound where less than half of it lies before.
    return [names[sum(2 * (bound - first[t]) < count[t] for bound in bounds)] for t in seconds]
