import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from random_logs import ITEMS, USERS, history_of, logs
from reclora_kedro.recommendation.candidates import asked_users, candidate_sets, candidate_table, popularity
from reclora_kedro.recommendation.config import RecommendationConfig


def config(**changes):
    settings = {"variant": "reclora", "users": None, "candidates": "unseen", "pool_items": 3, "pool_days": 1.0}
    return RecommendationConfig(**{**settings, "shortlist": None, "top_n": 2, **changes})


@given(logs(), st.sampled_from(["unseen", "popular_recent"]), st.integers(1, 6))
def test_candidates_are_never_seen_and_come_most_popular_first(log, kind, pool_items):
    sequences = history_of(log).sequences
    sets, _ = candidate_sets(sequences, ITEMS, None, pl.String(), config(candidates=kind, pool_items=pool_items))
    counts = popularity(sequences, ITEMS.height, 1.0)
    for index, user in enumerate(USERS["user_id"]):
        items = sets.of(user, index)
        seen = set(log.filter(pl.col("user_id") == user)["item_id"])
        assert not seen & set(ITEMS["item_id"].gather(items))
        assert (np.diff(counts[items]) <= 0).all()
        if kind == "unseen":
            assert len(items) == ITEMS.height - len(seen)
        else:
            assert (counts[items] > 0).all()
            assert len(items) <= pool_items
    assert set(sets.of("nobody", None)) == set(sets.pool)


def test_popularity_counts_the_events_of_the_last_days():
    day = 86_400
    log = pl.DataFrame(
        {
            "user_id": ["ann", "bob", "cid", "dora"],
            "item_id": [3, 3, 5, 8],
            "timestamp": [1, 9 * day, 10 * day, 10 * day + 1],
            "rating": [1.0, 5.0, 5.0, 5.0],
            "label": [0, 1, 1, 1],
        }
    )
    sequences = history_of(log).sequences
    assert popularity(sequences, 5, days=1.0).tolist() == [0, 1, 1, 0, 0]
    assert popularity(sequences, 5, days=2.0).tolist() == [1, 1, 1, 0, 0]
    assert popularity(sequences, 5, days=100).tolist() == [2, 1, 1, 0, 0]


def test_ids_that_no_table_knows_are_asked_for_too_and_each_once():
    asked = asked_users(USERS, None, ("bob", "eve", "bob", 7))
    assert asked.rows() == [("bob", 1), ("eve", None), ("7", None)]
    numbers = pl.DataFrame({"user_id": [3, 7]})
    assert asked_users(numbers, None, ("7", 9)).rows() == [(7, 1), (9, None)]
    assert asked_users(numbers, None, (7, "bob")).rows() == [("7", 1), ("bob", None)]


def test_a_table_without_its_columns_is_refused_by_name():
    with pytest.raises(ValueError, match="lacks item_id; its columns are user_id, movie"):
        candidate_table(pl.DataFrame({"user_id": [1], "movie": [2]}))
