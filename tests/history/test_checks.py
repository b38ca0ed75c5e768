"""Whether near items belong together."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from reclora_kedro.history.checks import check_retrieval, nearest_items
from reclora_kedro.history.log import InteractionLog
from reference_log import reference_log

USERS, ITEMS, EVENTS = 40, 60, 12
GENRE_OF = np.arange(ITEMS) % 4


@pytest.fixture(scope="module")
def log() -> InteractionLog:
    """Each user likes the items of one genre."""
    random = np.random.default_rng(0)
    item = np.concatenate(
        [random.choice(np.flatnonzero(user % 4 == GENRE_OF), EVENTS, replace=False) for user in range(USERS)]
    )
    interactions = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(USERS), EVENTS),
            "item_id": item,
            "rating": 5.0,
            "timestamp": random.permutation(USERS * EVENTS) + 1,
            "label": np.ones(USERS * EVENTS, dtype=np.int8),
        }
    )
    genres = [None if i < 3 else f"g{genre}, any" if i % 20 == 0 else f"g{genre}" for i, genre in enumerate(GENRE_OF)]
    items = pl.DataFrame(
        {"item_id": range(ITEMS), "title": ["A"] * ITEMS, "genres": genres, "description": ["B"] * ITEMS}
    )
    users = pl.DataFrame({"user_id": range(USERS)})
    log = reference_log(interactions, items, users, min_history=2)
    return replace(log, samples=log.samples.with_columns(split=pl.lit("train")))


def genre_vectors(noise: float) -> np.ndarray:
    return np.eye(4)[GENRE_OF] + noise * np.random.default_rng(1).normal(size=(ITEMS, 4))


def test_vectors_that_know_the_genre_beat_chance_and_others_do_not(log) -> None:
    genre, liked = check_retrieval(log.with_embeddings(genre_vectors(0.1)), seed=0)
    assert genre["check"] == "the nearest item shares a value of genres"
    assert genre["asked"] == ITEMS - 3  # items without a genre are left out
    assert genre["share"] == 1
    assert genre["chance"] == pytest.approx(14 / 56, abs=0.06)
    assert liked["check"] == "the item liked next is among the 10 nearest"
    assert liked["share"] == pytest.approx(10 / 14, abs=0.1)
    assert liked["lift"] > 2
    for blind in check_retrieval(log.with_embeddings(np.random.default_rng(2).normal(size=(ITEMS, 4))), seed=0):
        assert blind["lift"] == pytest.approx(1, abs=0.5)


@pytest.mark.parametrize(
    "trains", [pl.col("timestamp") < 200, pl.col("event") < pl.col("event").max().over("user_index") - 4]
)
def test_nothing_after_the_last_training_row_is_read(log, trains) -> None:
    half = log.samples.with_columns(split=pl.when(trains).then(pl.lit("train")).otherwise(pl.lit("test")))
    log = replace(log, samples=half).with_embeddings(genre_vectors(0.5))
    later = ~log.training_events()
    assert later[half.filter(split="test")["event"]].all()
    items = np.where(later, 0, log.sequences.item_index)
    changed = replace(log, sequences=replace(log.sequences, item_index=items))
    assert check_retrieval(log, seed=0) == check_retrieval(changed, seed=0)


def test_items_without_fields_are_checked_by_likes_alone(log) -> None:
    bare = replace(log, items=log.items.select("item_id", "title")).with_embeddings(genre_vectors(0.1))
    assert [record["check"] for record in check_retrieval(bare, seed=0)] == [
        "the item liked next is among the 10 nearest"
    ]


def test_nearest_items_are_those_of_a_plain_loop() -> None:
    vectors = np.random.default_rng(0).normal(size=(30, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for item, found in zip((4, 29), nearest_items(vectors, np.array([4, 29]), 3), strict=True):
        cosines = vectors @ vectors[item]
        cosines[item] = -1
        assert found.tolist() == np.argsort(-cosines)[:3].tolist()


def test_a_log_without_embeddings_is_refused(log) -> None:
    with pytest.raises(ValueError, match="no item embeddings"):
        check_retrieval(log, seed=0)
