"""Declared weights of events reach each item model, by plain loops over the events."""

import numpy as np
import polars as pl
import pytest

from live_service import LINEAR
from reclora_kedro.candidates.item_knn import ItemKnn, ItemKnnSettings, SharedUsers
from reclora_kedro.candidates.item_model import NoSettings, Training
from reclora_kedro.candidates.linear import Linear, LinearSettings
from reclora_kedro.candidates.own_items import OwnItems
from reclora_kedro.candidates.popularity import Popularity, PopularitySettings
from reclora_kedro.candidates.transitions import follows
from reclora_kedro.history.sequences import Sequences
from reclora_kedro.ingestion.events import EventColumn, EventSchema
from reference_log import reference_log

USERS, ITEMS = 8, 6
WEIGHTS = {"look": 0.0, "view": 0.5, "cart": 1.0, "buy": 4.0}
EVENTS = 7  # of each user


def some_log(weights):
    """A log whose events have kinds, and how much each event counts."""
    random = np.random.default_rng(0)
    count = USERS * EVENTS
    kinds = random.choice([*WEIGHTS], count)
    interactions = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(USERS), EVENTS),
            "item_id": random.integers(0, ITEMS, count),
            "rating": np.full(count, 5.0),
            "timestamp": np.tile(np.arange(EVENTS), USERS) + 1,
            "label": np.ones(count, dtype=int),
        }
    )
    items = pl.DataFrame({"item_id": range(ITEMS), "title": [f"Thing {item}" for item in range(ITEMS)]})
    log = reference_log(interactions, items, pl.DataFrame({"user_id": range(USERS)}), min_history=1)
    column = EventColumn(name="kind", kind="event", weights=weights)
    schema = EventSchema((column,)).recognising(pl.DataFrame({"kind": kinds}))
    columns = log.sequences.columns | schema.encoded(pl.DataFrame({"kind": kinds}))
    sequences = Sequences.from_columns(log.sequences.offsets, schema, **columns)
    return log.of_items(np.ones(ITEMS, dtype=bool), sequences=sequences), np.array([weights[kind] for kind in kinds])


@pytest.fixture
def log():
    return some_log(WEIGHTS)


def taken(log, weights):
    """How much users took items, by the event that counts most: (users, items)."""
    most = np.zeros((USERS, ITEMS))
    for event, (item, weight) in enumerate(zip(log.sequences.item_index, weights, strict=True)):
        most[event // EVENTS, item] = max(most[event // EVENTS, item], weight)
    return most


def latest(log, weights, recency):
    """How much the events of users count in their histories: (users, items)."""
    history = np.zeros((USERS, ITEMS))
    for event, item in enumerate(log.sequences.item_index):
        history[event // EVENTS, item] += recency ** (EVENTS - 1 - event % EVENTS) * weights[event]
    return history


def now(log):
    return Training.from_log(log).moments(log.now(pl.DataFrame({"user_index": range(USERS)}, {"user_index": pl.Int32})))


def test_popularity_sums_how_much_users_took_an_item(log):
    log, weights = log
    training = Training.from_log(log)
    scores = Popularity.fit(training, PopularitySettings(days=None)).scores(now(log))
    np.testing.assert_allclose(scores[0], taken(log, weights).sum(axis=0))
    np.testing.assert_allclose(training.user_items.toarray(), taken(log, weights))


def test_shared_users_are_products_of_how_much_both_items_were_taken(log):
    log, weights = log
    most = taken(log, weights)
    shared = SharedUsers(log.sequences, ITEMS)
    for item, (others, users) in shared.rows(np.arange(ITEMS)).items():
        row = np.zeros(ITEMS)
        row[others] = users
        np.testing.assert_allclose(row, most[:, item] @ most)


def test_histories_and_transitions_count_events_by_their_weights(log):
    log, weights = log
    scores = OwnItems.fit(Training.from_log(log), NoSettings()).scores(now(log)).toarray()
    np.testing.assert_allclose(scores, latest(log, weights, 0.97), rtol=1e-5)
    later = np.zeros((ITEMS, ITEMS))
    for event, item in enumerate(log.sequences.item_index):
        for apart in range(1, min(2, EVENTS - 1 - event % EVENTS) + 1):
            if (other := log.sequences.item_index[event + apart]) != item:
                later[item, other] += 0.5 ** (apart - 1) * weights[event] * weights[event + apart]
    found = follows(log.sequences, np.ones(USERS * EVENTS, dtype=bool), ITEMS, window=2, decay=0.5)
    np.testing.assert_allclose(found.later.toarray(), later, rtol=1e-5)


def test_item_knn_reads_weights_of_neighbours_and_of_histories(log):
    log, weights = log
    most = taken(log, weights)
    shared, users = most.T @ most, (most**2).sum(axis=0)
    near = shared / np.sqrt(np.outer(users, users))
    np.fill_diagonal(near, 0)
    model = ItemKnn.fit(Training.from_log(log), ItemKnnSettings(popularity_power=0.5, text_weight=0))
    np.testing.assert_allclose(model.scores(now(log)).toarray(), latest(log, weights, 0.8) @ near, rtol=1e-5)


def test_the_linear_model_reads_weights_of_its_matrix_and_of_histories(log):
    log, weights = log
    most, settings = taken(log, weights), LINEAR | {"text_weight": 0, "transition_weight": 0}
    settings |= {"regularization": 5, "recency": 0.9}
    inverse = np.linalg.inv(most.T @ most + 5 * np.eye(ITEMS))
    of_items = -inverse / np.diag(inverse)
    np.fill_diagonal(of_items, 0)
    model = Linear.fit(Training.from_log(log), LinearSettings.model_validate(settings))
    np.testing.assert_allclose(model.scores(now(log)), latest(log, weights, 0.9) @ of_items, atol=1e-5)
