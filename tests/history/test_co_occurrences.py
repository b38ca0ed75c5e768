"""Vectors of likes: by a dense decomposition, and free of what came later."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from random_logs import ITEMS, USERS
from reclora_kedro.history.co_occurrences import COMPONENTS, co_occurrence_vectors, cross_fitted_vectors
from reclora_kedro.history.retrieval import unit_vectors
from reclora_kedro.history.sequences import user_of_events
from reclora_kedro.history.splits import SplitConfig
from reference_log import reference_log


@pytest.fixture
def log():
    random = np.random.default_rng(3)
    interactions = pl.DataFrame(
        {
            "user_id": random.choice(USERS["user_id"], 60),
            "item_id": random.choice(ITEMS["item_id"][:-1], 60),  # nobody takes the last item
            "timestamp": random.integers(1, 40, 60),
            "rating": random.choice([2.0, 5.0], 60),
        }
    )
    interactions = interactions.unique(["user_id", "item_id", "timestamp"], keep="first", maintain_order=True)
    interactions = interactions.with_columns(label=pl.col("rating").ge(3.5).cast(pl.Int8))
    return reference_log(
        interactions, ITEMS, USERS, 0, split=SplitConfig(kind="global_time", train=0.5, validation=0.25)
    )


def test_their_cosines_are_those_of_a_dense_decomposition(log):
    likes, sequences = np.zeros((USERS.height, ITEMS.height)), log.sequences
    for event in np.flatnonzero(log.training_events() & (sequences.label == 1)):
        likes[user_of_events(sequences.offsets)[event], sequences.item_index[event]] = 1
    likes = likes[:, :-1]
    assert likes.any(axis=0).all()
    assert likes.any(axis=1).all()
    scaled = likes / np.sqrt(likes.sum(axis=1, keepdims=True) * likes.sum(axis=0, keepdims=True))
    expected = unit_vectors(np.linalg.svd(scaled).Vh[:3].T)
    vectors = unit_vectors(co_occurrence_vectors(log, 64, seed=7))
    assert vectors.shape == (ITEMS.height, 3)
    np.testing.assert_allclose(vectors[:-1] @ vectors[:-1].T, expected @ expected.T, atol=1e-6)
    assert not vectors[-1].any()


def test_no_later_event_changes_one(log):
    later = ~log.training_events()
    assert later.any()
    sequences = replace(
        log.sequences,
        item_index=np.where(later, ITEMS.height - 1, log.sequences.item_index),
        label=np.where(later, 1, log.sequences.label),
    )
    changed = replace(log, sequences=sequences)
    np.testing.assert_array_equal(co_occurrence_vectors(changed, 2, seed=7), co_occurrence_vectors(log, 2, seed=7))


def test_a_log_in_which_one_item_is_liked_is_refused(log):
    one = replace(log, sequences=replace(log.sequences, item_index=np.zeros_like(log.sequences.item_index)))
    with pytest.raises(ValueError, match=r"4 users like 1 items .* Name another encoder"):
        co_occurrence_vectors(one, 2, seed=7)
    parts = np.array([0, 0, 0, 1])[: USERS.height]
    with pytest.raises(
        ValueError, match=r"of 1 users in other parts than one, 1 users .* `lens\.co_occurrence_folds` to 0"
    ):
        cross_fitted_vectors(log, parts, seed=7)


def test_events_of_a_user_change_no_vector_that_this_user_reads(log):
    parts, owner = np.arange(USERS.height) % 2, user_of_events(log.sequences.offsets)
    changed = np.where(parts[owner] == 1, (log.sequences.item_index + owner) % ITEMS.height, log.sequences.item_index)
    before, after = (
        cross_fitted_vectors(replace(log, sequences=replace(log.sequences, item_index=items)), parts, seed=7)
        for items in (log.sequences.item_index, changed)
    )
    assert before.shape == (2, ITEMS.height, COMPONENTS)
    assert [np.array_equal(*each) for each in zip(before, after, strict=True)] == [False, True]


def test_one_part_reads_everybodys_likes(log):
    [vectors] = cross_fitted_vectors(log, np.zeros(USERS.height, dtype=np.int64), seed=7)
    expected = unit_vectors(co_occurrence_vectors(log, COMPONENTS, seed=7))
    np.testing.assert_array_equal(vectors[:, : expected.shape[1]], expected.astype(np.float32))
    assert not vectors[:, expected.shape[1] :].any()
