"""Hypothesis strategies: small logs whose events often share a second, a user and an item."""

from random import Random

import numpy as np
import polars as pl
from hypothesis import strategies as st

from reclora_kedro.history.log import InteractionLog
from reference_log import reference_log

USERS = pl.DataFrame({"user_id": ["ann", "bob", "cid", "dora"], "gender": ["F", None, "M", "F"]})
ITEMS = pl.DataFrame({"item_id": [3, 5, 8, 13, 21], "title": ["A", "B", "C", "D", "E"]})


@st.composite
def interaction_tables(draw: st.DrawFn) -> pl.DataFrame:
    """Canonical interactions, in any order."""
    keys = draw(
        st.lists(
            st.tuples(
                st.sampled_from(USERS["user_id"].to_list()),
                st.sampled_from(ITEMS["item_id"].to_list()),
                st.integers(min_value=1, max_value=6),
            ),
            min_size=1,
            max_size=40,
            unique=True,
        )
    )
    ratings = draw(st.lists(st.sampled_from([0.5, 2.0, 3.5, 5.0]), min_size=len(keys), max_size=len(keys)))
    return pl.DataFrame(keys, schema=["user_id", "item_id", "timestamp"], orient="row").with_columns(
        rating=pl.Series(ratings), label=pl.Series(ratings).ge(3.5).cast(pl.Int8)
    )


def with_impressions(interactions: pl.DataFrame, random: Random, kinds: str = "eesh") -> pl.DataFrame:
    """The log with rows that are no events (kind s, label 0) and earlier ones that are no samples (kind h)."""
    rows = interactions.with_columns(kind=pl.Series([random.choice(kinds) for _ in range(interactions.height)]))
    shown, earlier = pl.col("kind") == "s", pl.col("kind") == "h"
    return rows.with_columns(
        rating=pl.when(~shown).then("rating"),
        label=pl.when(shown).then(pl.lit(0, pl.Int8)).when(~earlier).then("label"),
        timestamp=pl.when(earlier).then(pl.col("timestamp")).otherwise(pl.col("timestamp") + 10),
    ).drop("kind")


def log_of(interactions: pl.DataFrame, min_history: int = 0) -> InteractionLog:
    """The log of these interactions; its samples have no split."""
    return reference_log(interactions, ITEMS, USERS, min_history)


def logs() -> st.SearchStrategy[InteractionLog]:
    """Logs in which every event is a sample."""
    return interaction_tables().map(log_of)


def item_embeddings() -> st.SearchStrategy[np.ndarray]:
    """Either few distinct directions, zero among them, so that cosines tie; or directions that hardly differ."""
    vector = st.lists(st.integers(min_value=-1, max_value=2), min_size=2, max_size=2)
    few = st.lists(vector, min_size=ITEMS.height, max_size=ITEMS.height).map(np.array)
    close = st.permutations(range(ITEMS.height)).map(lambda steps: np.array([[1e3, step] for step in steps]))
    return st.one_of(few, close).map(lambda rows: rows.astype(np.float32))


def embedded_logs() -> st.SearchStrategy[InteractionLog]:
    """The same logs with item embeddings."""
    return st.builds(InteractionLog.with_embeddings, logs(), item_embeddings())
