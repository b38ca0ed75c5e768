"""Lists of all requested users."""

import logging
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from named import PARAMETERS
from reclora_kedro.candidates.item_model import Training
from reclora_kedro.distributed import engine
from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.lens.states import LensReader
from reclora_kedro.recommendation import delivery, recommender
from reclora_kedro.recommendation.chosen import Choice
from reclora_kedro.recommendation.config import RecommendationConfig
from reclora_kedro.recommendation.delivery import candidate_questions, candidate_table, concentration, lists_for_users
from reclora_kedro.recommendation.recommender import FittedRecommender

RULES = RecommendationConfig.model_validate(PARAMETERS["recommendation"])
SOURCES = {"popularity": {}, "item_knn": {}}


@pytest.fixture
def log(log):
    return replace(log, samples=log.samples.with_columns(split=pl.lit("train")))


def made(log, lens=None, kind="item_knn", order="candidates", rules=RULES):
    choice = Choice(kind=kind, order=order, sources=SOURCES)
    return FittedRecommender.from_choice(Training.from_log(log), choice, rules, lens and LensReader(lens, log))


def lists_of(log, users=None, limit=4, table=None, engine=LOCAL, **choice):
    """The recommender's lists."""
    return lists_for_users(made(log, **choice), users, limit, table, engine)


def test_each_user_gets_what_the_recommender_finds_best_now_with_reasons(log):
    lists, report = lists_of(log)
    recommends = made(log)
    moments = recommends.moments(log.now(log.find_users(log.users["user_id"])))
    best = recommends.best_lists(moments, 4)
    assert lists["user_id"].to_list() == np.repeat(log.users["user_id"], 4).tolist()
    assert lists["item_index"].to_list() == best.items.ravel().tolist()
    np.testing.assert_allclose(lists["score"], best.scores.ravel())
    assert lists.select("item_id", "title").equals(log.items[lists["item_index"]].select("item_id", "title"))
    titles = log.items["title"]
    reasons = [titles[events].to_list() for of in recommends.explain(moments, best.items) for events, _ in of]
    assert lists["because"].to_list() == reasons
    assert max(map(len, reasons)) > 0

    assert lists.schema == delivery.Delivery(recommender=recommends, limit=4)(log.find_users([])).schema
    assert report == {"users": 5, "fallbacks": 0, "empty_candidate_sets": 0}


@pytest.mark.usefixtures("forked_cores")
@pytest.mark.parametrize("kind", ["item_knn", "fusion"])
def test_lists_are_the_same_whatever_is_made_at_once(log, lens, monkeypatch, workers_here, kind):
    users = (3, 9, 0, 4)
    whole = lists_of(log, users, lens=lens, kind=kind, order="lens")
    monkeypatch.setattr(delivery, "MOMENTS_AT_ONCE", 2)
    monkeypatch.setattr(recommender, "MOMENTS_AT_ONCE", 1)
    monkeypatch.setattr(engine, "SHARDS_PER_CORE", 1)
    on_cores = LOCAL.model_copy(update={"rows_per_shard": 1})
    for where in (LOCAL, on_cores, workers_here(3)):
        parts = lists_of(log, users, lens=lens, kind=kind, order="lens", engine=where)
        assert whole[0].drop("score").equals(parts[0].drop("score"))
        np.testing.assert_allclose(whole[0]["score"], parts[0]["score"], rtol=1e-5)
        assert whole[1] == parts[1]


def test_users_without_events_get_the_most_popular_items_without_scores_or_reasons(log):
    users = pl.concat([log.users, pl.DataFrame({"user_id": [5], "gender": [None]})], how="vertical_relaxed")
    sequences = replace(log.sequences, offsets=np.append(log.sequences.offsets, log.sequences.offsets[-1]))
    log = replace(log, users=users, sequences=sequences)
    lists, report = lists_of(log, (9, 2, 5), limit=3)
    assert lists["user_id"].to_list() == [9] * 3 + [2] * 3 + [5] * 3
    fallback = lists.filter("fallback")
    assert fallback["user_index"].to_list() == [None] * 3 + [5] * 3
    recommends = made(log)
    popular = recommends.popularity.top(recommends.moments(log.now(log.find_users([5]))), 3).items[0].tolist()
    assert fallback["item_index"].to_list() == popular * 2
    assert fallback["score"].to_list() == [None] * 6
    assert fallback["because"].to_list() == [[]] * 6
    assert report == {"users": 3, "fallbacks": 2, "empty_candidate_sets": 0}
    assert candidate_questions(log, lists)["row"].to_list() == [3, 4, 5]


def test_a_table_decides_which_items_each_user_gets_also_those_that_they_took(log, caplog):
    taken = log.sequences.item_index[slice(*log.sequences.offsets[4:6])][0]
    table = pl.DataFrame({"user_id": ["4", "4", "4", "1", "9", "x"], "item_id": [0, taken, 99, 5, 2, 3]})
    with caplog.at_level(logging.WARNING):
        pairs = candidate_table(table, log)
        lists, report = lists_of(log, (1, 3, 4, 9), table=pairs)
    assert "recommendation_candidates has 1 unknown items, which are left out: '99'." in caplog.text
    assert "1 of 4 users get no items, because they have no candidates: 3." in caplog.text
    assert lists.select("user_id", "item_id").sort("user_id", "item_id").rows() == [
        (1, 5),
        *sorted([(4, 0), (4, taken)]),
        (9, 2),
    ]
    assert lists.filter("fallback")["user_id"].to_list() == [9]
    assert report == {"users": 4, "fallbacks": 1, "empty_candidate_sets": 1}
    assert lists_of(log, table=pairs)[1]["users"] == 3  # those of the table, without the one of an id of another type


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "recommendation_candidates holds nothing. Point it at a table"),
        ({"user_id": [], "item_id": []}, "recommendation_candidates has no row"),
        ({"user_id": [1], "movie": [2]}, "lacks item_id: its columns are user_id, movie"),
        (
            {"user_id": [1], "item_id": [1.5]},
            "'item_id' of recommendation_candidates.*row 1 holds 1.5.*whole numbers",
        ),
    ],
)
def test_an_unfit_table_is_refused(log, table, message):
    with pytest.raises(ValueError, match=message):
        candidate_table(table and pl.DataFrame(table), log)


def test_ids_of_a_table_are_read_as_those_of_raw_tables(log):
    users = pl.Series(["20", " 10", None], dtype=pl.Categorical)
    pairs = candidate_table(pl.DataFrame({"user_id": users, "item_id": [1.0, 2.0, 3.0]}), log)
    assert pairs.rows() == [("20", 1), ("10", 2)]


def test_what_is_reported_is_of_known_users_first_items(log):
    lists, _ = lists_of(log, (9, 0, 1, 2), limit=4)
    own = lists.filter(~pl.col("fallback")).group_by("user_id", maintain_order=True).head(2)
    figures = concentration(lists, 2, log.items.height)
    assert figures.lists == 3
    assert figures.coverage == own["item_index"].n_unique() / log.items.height
    assert concentration(lists.filter("fallback"), 2, log.items.height) is None
