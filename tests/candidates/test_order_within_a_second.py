"""Models of a user's events see no order inside a second, even where `history.ties` keeps that of the file."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from random_logs import ITEMS, USERS, interaction_tables
from reclora_kedro.candidates.item_knn import ItemKnn, ItemKnnSettings
from reclora_kedro.candidates.item_model import Training
from reclora_kedro.candidates.linear import Linear, LinearSettings
from reclora_kedro.candidates.popularity import Popularity, PopularitySettings
from reference_log import reference_log

MODELS = {
    "popularity": (Popularity, PopularitySettings(days=7.0)),
    "item_knn": (ItemKnn, ItemKnnSettings()),
    "linear": (Linear, LinearSettings(regularization=2.0, recency=0.7)),
    "transitions": (Linear, LinearSettings(regularization=2.0, recency=0.7, transition_weight=1.0, directed=True)),
}


def scores_by_ids(table, model, settings):
    """Return the scores of all users after their events, (users, items), both by ascending id."""
    log = reference_log(table, ITEMS, USERS, ties="order")
    training = Training.from_log(log)
    users, items = (log.users["user_id"].arg_sort().to_numpy(), log.items["item_id"].arg_sort().to_numpy())
    moments = training.moments(log.now(log.users.with_row_index("user_index").select("user_index")))
    scores = model.fit(training, settings).scores(moments)
    return (scores if isinstance(scores, np.ndarray) else scores.toarray())[users][:, items]


@pytest.mark.parametrize("name", MODELS)
@given(table=interaction_tables(), seed=st.integers(0, 9))
def test_rows_in_another_order_have_the_same_scores(name, table, seed):
    mixed = table.sample(fraction=1, shuffle=True, seed=seed)
    expected, scores = (scores_by_ids(rows, *MODELS[name]) for rows in (table, mixed))
    np.testing.assert_allclose(scores, expected, atol=1e-5)
