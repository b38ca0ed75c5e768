"""A log of ratings shaped like MovieLens-25M, of any size: long-tailed activity and popularity, tastes, sessions.

With the settings of conf/base that read it, for processes that need no Kedro.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.ingestion.config import IngestionConfig

CONF = Path(__file__).parents[1] / "conf" / "base"
EMBEDDING_DIM = 64  # of made-up item vectors

ROWS, USERS, ITEMS = 25_000_095, 162_541, 59_047  # MovieLens-25M
MIN_EVENTS = 20  # of a user, as in MovieLens
TASTES = 8  # dimensions of the users' and items' latent factors
FIRST_SECOND, LAST_SECOND = 789_652_009, 1_574_327_703  # of MovieLens-25M
SESSION_PAUSE = 30 * 86_400  # mean seconds between two sittings of a user
ROWS_PER_SITTING = 30
INGESTION = IngestionConfig.model_validate(
    {
        "interactions": {
            "user_id": "user_id", "item_id": "item_id", "rating": "rating", "timestamp": "timestamp",
            "timestamp_format": "unix_seconds",
        },
        "items": {
            "item_id": "item_id", "title": "title", "missing_title": "Unknown title", "trailing_articles": [],
            "fields": [{"name": "genres", "column": "genres"}],
        },
        "users": None,
        "plausible_times": {"first_day": "1990-01-01", "last_day": None, "max_outside": 0},
        "max_ratings_outside": 1,
        "max_share_of_one_id": 1,
        "max_missing": 0,
        "rating_min": 0.5,
        "rating_max": 5,
        "label_threshold": 4,
        "duplicates": "highest_rating",
        "k_core": 0,
    }
)  # fmt: skip


def conf(name: str, block: str) -> dict[str, Any]:
    """A block of parameters of conf/base."""
    text = (CONF / f"parameters_{name}.yml").read_text().replace("${globals:seed}", "42")
    parameters: dict[str, Any] = yaml.safe_load(text)[block]
    return parameters


def history_settings(negatives: str = "none") -> HistoryConfig:
    """Those of conf/base, with negatives drawn for each like."""
    history = conf("history", "history")
    return HistoryConfig.model_validate(history | {"negatives": history["negatives"] | {"kind": negatives}})


def make_log(rows: int, seed: int = 0, items: int | None = None) -> pl.DataFrame:
    """A log in random order: user_id, item_id, rating (half stars, 0.5 to 5), timestamp (seconds since the epoch).

    Users scale with the rows and items with their 0.75th power, so that the log of 25,000,095 rows has MovieLens-25M's
    counts. A user rates an item once.

    Args:
        rows: number of ratings.
        seed: of every random draw.
        items: number of items that may be rated; None for that of the rows.

    Raises:
        ValueError: so few rows have too few users and items for as many distinct pairs.
    """
    random = np.random.default_rng(seed)
    users, items = max(2, round(USERS * rows / ROWS)), items or max(60, round(ITEMS * (rows / ROWS) ** 0.75))
    if rows > 0.75 * users * items:
        raise ValueError(f"A log of {rows:,} rows would have {users} users and {items} items: ask for 20,000 or more.")
    popularity = (np.arange(items) + 250) ** -2.0  # the first item gets 0.4% of the rows, most get few
    activity = random.lognormal(sigma=1.6, size=users)
    events = np.minimum(MIN_EVENTS + activity / activity.sum() * (rows - MIN_EVENTS * users), items / 2)
    pairs = _distinct_pairs(random, rows, events, popularity, items)
    pairs = random.permutation(pairs)  # else each user would take items by ascending id
    pairs = pairs[np.argsort(pairs // items, kind="stable")]
    user, item = pairs // items, pairs % items
    rating = _ratings(random, user, item, users, items)
    return pl.DataFrame(
        {"user_id": user + 1, "item_id": item + 1, "rating": rating, "timestamp": _times(random, user, users)}
    ).sample(fraction=1, shuffle=True, seed=seed)


def _distinct_pairs(
    random: np.random.Generator, rows: int, events: np.ndarray, popularity: np.ndarray, items: int
) -> np.ndarray:
    """Exactly `rows` distinct (user, item) pairs as user * items + item, sorted."""
    of_user, of_item = np.cumsum(events) / events.sum(), np.cumsum(popularity) / popularity.sum()
    pairs = np.empty(0, dtype=np.int64)
    while len(pairs) < rows:
        count = int((rows - len(pairs)) * 1.1) + 100
        user = np.searchsorted(of_user, random.random(count)).astype(np.int64)
        item = np.searchsorted(of_item, random.random(count))
        drawn = np.sort(np.concatenate([pairs, user * items + item]), kind="stable")  # np.union1d is ten times slower
        pairs = drawn[np.diff(drawn, prepend=-1) != 0]
    return np.sort(random.permutation(pairs)[:rows])


def _ratings(random: np.random.Generator, user: np.ndarray, item: np.ndarray, users: int, items: int) -> np.ndarray:
    taste, trait = random.normal(size=(users, TASTES)), random.normal(size=(items, TASTES))
    liking = np.empty(len(user))
    for part in np.array_split(np.arange(len(user)), max(1, len(user) // 2**20)):
        liking[part] = (taste[user[part]] * trait[item[part]]).sum(axis=1) / TASTES**0.5
    liking += random.normal(size=users)[user] * 0.5 + random.normal(size=items)[item] * 0.7
    stars = 3.5 + 0.6 * liking + random.normal(size=len(user)) * 0.7
    return (np.round(stars * 2) / 2).clip(0.5, 5)


def _times(random: np.random.Generator, user: np.ndarray, users: int) -> np.ndarray:
    """Sittings of some dozens of ratings, seconds apart, with weeks between them; `user` is sorted."""
    start = np.searchsorted(user, np.arange(users))
    place = np.arange(len(user)) - start[user]
    arbaseline = random.integers(FIRST_SECOND, LAST_SECOND, size=users)
    pauses = np.where(place % ROWS_PER_SITTING == 0, random.exponential(SESSION_PAUSE, len(user)), 0)
    elapsed = np.cumsum(pauses + random.integers(2, 30, size=len(user)))
    elapsed -= elapsed[start[user]]
    span = (LAST_SECOND - arbaseline)[user]
    return arbaseline[user] + np.minimum(elapsed, span).astype(np.int64)
