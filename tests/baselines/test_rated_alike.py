"""How users rated what others rate like the target."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from reclora_kedro.baselines import boosted_trees as module
from reclora_kedro.baselines.boosted_trees import rated_alike


@pytest.fixture
def log(log):
    third = pl.col("row") % 5
    split = pl.when(third == 0).then(pl.lit("test")).when(third == 1).then(pl.lit("validation"))
    return replace(log, samples=log.samples.with_columns(split=split.otherwise(pl.lit("train"))))


def by_definition(log, sample, is_counted):
    """The feature of one sample, event by event, by ratings of the users that count."""
    events, known = log.sequences, log.training_events()
    owner = np.repeat(np.arange(len(events.starts)), np.diff(events.offsets))
    rows = [event for event in np.flatnonzero(known) if is_counted(owner[event])]
    mean = np.mean([events.rating[event] for event in rows])

    def shrunk(values):
        return sum(values) / (len(values) + module.FEW_RATINGS)

    base = [
        mean + shrunk([events.rating[event] - mean for event in rows if events.item_index[event] == item])
        for item in range(log.items.height)
    ]
    rest = {event: events.rating[event] - base[events.item_index[event]] for event in rows}
    of_user = {user: shrunk([rest[event] for event in rows if owner[event] == user]) for user in set(owner[rows])}
    ratings = {}
    for event in rows:
        key = owner[event], events.item_index[event]
        ratings[key] = ratings.get(key, 0) + rest[event] - of_user[owner[event]]

    def likeness(one, other):
        both = [user for user in of_user if (user, one) in ratings and (user, other) in ratings]
        if one == other or not both:
            return 0
        x, y = (np.array([ratings[user, item] for user in both]) for item in (one, other))
        return x @ y / max(np.sqrt((x @ x) * (y @ y)), 1e-6) * len(both) / (len(both) + module.FEW_USERS)

    history = range(events.offsets[sample["user_index"]], sample["history_end"])
    above = np.array([events.rating[event] - base[events.item_index[event]] for event in history])
    above = above - above.sum() / (len(above) + module.FEW_RATINGS)
    weight = np.array([likeness(sample["item_index"], events.item_index[event]) for event in history])
    return weight @ above / (np.abs(weight).sum() + module.LITTLE_LIKENESS)


@pytest.mark.parametrize("in_training", [True, False])
def test_it_is_the_mean_rating_by_the_correlations_of_items(log, in_training, monkeypatch):
    monkeypatch.setattr(module, "ALIKE_AT_ONCE", 7)
    samples = log.samples_in("train" if in_training else "test")[:12]
    expected = [
        by_definition(
            log, sample, lambda user, own=sample["user_index"]: not in_training or (user - own) % module.FOLDS != 0
        )
        for sample in samples.iter_rows(named=True)
    ]
    assert np.count_nonzero(expected) > 3
    np.testing.assert_allclose(rated_alike(log, samples, in_training), expected, atol=1e-5)


def test_ratings_of_later_splits_and_of_the_rows_own_users_tell_nothing_while_training(log):
    events, samples = log.sequences, log.samples_in("train").filter(pl.col("user_index") % module.FOLDS == 0)
    owner = np.repeat(np.arange(len(events.starts)), np.diff(events.offsets))
    last = samples.group_by("user_index").agg(pl.col("history_end").max())
    read = np.zeros(len(events.rating), dtype=bool)
    for user, end in last.iter_rows():
        read[events.offsets[user] : end] = True
    unread = ~read & ((owner % module.FOLDS == 0) | ~log.training_events())
    assert unread.any()
    other = replace(log, sequences=replace(events, rating=np.where(unread, 6 - events.rating, events.rating)))
    before = rated_alike(log, samples, in_training=True)
    assert before.any()
    np.testing.assert_array_equal(rated_alike(other, samples, in_training=True), before)


def test_a_log_of_purchases_or_of_too_many_pairs_has_none(log, monkeypatch, caplog):
    caplog.set_level("INFO")
    purchases = replace(log, sequences=replace(log.sequences, rating=np.ones_like(log.sequences.rating)))
    assert not rated_alike(purchases, log.samples, in_training=False).any()
    monkeypatch.setattr(module, "MOST_PAIRS", 1)
    assert not rated_alike(log, log.samples, in_training=False).any()
    assert "are too many" in caplog.text
