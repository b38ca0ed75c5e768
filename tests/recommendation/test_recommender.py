"""What a recommender does besides finding items: rules, reasons, unlike texts, users without events."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from named import PARAMETERS
from reclora_kedro.candidates.item_model import Training
from reclora_kedro.candidates.moments import NO_ITEM
from reclora_kedro.recommendation.chosen import Choice
from reclora_kedro.recommendation.config import RecommendationConfig
from reclora_kedro.recommendation.recommender import FittedRecommender


@pytest.fixture
def log(log):
    return replace(log, samples=log.samples.with_columns(split=pl.lit("train")))


def made(log, kind="item_knn", order="candidates", **changes):
    rules = RecommendationConfig.model_validate(PARAMETERS["recommendation"] | changes)
    choice = Choice(kind=kind, order=order, sources={"popularity": {}, "item_knn": {"text_weight": 1.0}})
    return FittedRecommender.from_choice(Training.from_log(log), choice, rules)


def now(recommender, users=(0, 1, 2, 3, 4), **rules):
    frame = pl.DataFrame({"user_index": pl.Series(users, dtype=pl.Int32)})
    return recommender.moments(recommender.log.now(frame), **rules)


@pytest.mark.parametrize("kind", ["popularity", "item_knn", "fusion"])
def test_lists_keep_the_rules(log, kind):
    taken = [{*log.sequences.item_index[slice(*log.sequences.offsets[user : user + 2])].tolist()} for user in range(5)]
    strict, lenient = (made(log, kind, exclude_items=[3], repeat=repeat) for repeat in (False, True))
    excluded = [np.array([user]) for user in range(5)]
    allowed = [np.array([0, 1, 2, 3, 9]), *[None] * 4]
    for items, mine in zip(strict.best_lists(now(strict, excluded=excluded), 12).items, range(5), strict=True):
        assert {*items.tolist()} - {NO_ITEM} == {*range(12)} - taken[mine] - {3, mine}
    [of_first, *others] = lenient.best_lists(now(lenient, allowed=allowed), 12).items.tolist()
    assert {*of_first} == {0, 1, 2, 9, NO_ITEM}
    assert all({*items} == {*range(12)} - {3} | {NO_ITEM} for items in others)
    asked = now(strict, repeat=True)
    assert {*strict.best_lists(asked, 12).items[0].tolist()} == {*range(12)} - {3} | {NO_ITEM}


def test_given_items_are_ranked_as_lists_are(log):
    recommender = made(log)
    moments = now(recommender, users=(2, 2))
    [every, _] = recommender.best_lists(moments, 12).items.tolist()
    given = [np.array(every[3:0:-1]), np.array(every[:5])]
    ranked = recommender.best_lists(replace(moments, allowed=given), 5).items.tolist()
    assert ranked == [[*every[1:4], NO_ITEM, NO_ITEM], every[:5]]


def test_reasons_are_the_users_own_events_nearest_first(log):
    recommender = made(log)
    moments = now(recommender)
    lists = recommender.best_lists(moments, 3).items
    reasons = recommender.explain(moments, lists)
    for user, (items, of_user) in enumerate(zip(lists, reasons, strict=True)):
        own = log.sequences.item_index[slice(*log.sequences.offsets[user : user + 2])]
        assert len(of_user) == len(items)
        for events, weights in of_user:
            assert {*events.tolist()} <= {*own.tolist()}
            assert len(events) == len(weights) <= 3
            assert (np.diff(weights) <= 0).all()
    assert any(len(events) for of_user in reasons for events, _ in of_user)
    lists[0] = NO_ITEM
    assert recommender.explain(moments, lists)[0] == []


def test_diversity_exchanges_items_of_the_shortlist_that_are_alike_and_shows_no_scores(log):
    log = log.with_embeddings(np.eye(12)[np.arange(12) // 2])  # items by twos
    plain, diverse = (made(log, shortlist=12, top_n=5, diversity=strength) for strength in (0.0, 0.99))
    moments = now(plain)
    lists = diverse.best_lists(moments, 3)
    assert np.isnan(lists.scores).all()
    for first, items in zip(plain.best_lists(moments, 12).items, lists.items, strict=True):
        first = first[first != NO_ITEM]
        first_of_each_kind = first[np.sort(np.unique(first // 2, return_index=True)[1])][:3]
        assert items[: len(first_of_each_kind)].tolist() == first_of_each_kind.tolist()


def test_a_choice_that_reads_the_lens_needs_one(log):
    with pytest.raises(ValueError, match=r"recommendation\.order is lens, but there is no lens"):
        made(log, order="lens")


def test_without_a_shared_clock_facts_of_items_never_count_events_that_are_held_out(log):
    log = replace(log, shared_clock=False)
    training = Training(log, np.arange(len(log.sequences.item_index)) % 2 == 0)
    choice = Choice(kind="fusion", order="candidates", sources={"popularity": {}})
    recommender = FittedRecommender.from_choice(
        training, choice, RecommendationConfig.model_validate(PARAMETERS["recommendation"])
    )
    asked = recommender.as_of_each_moment(training)
    pairs = log.samples.select("user_index", "item_index", "history_end", "timestamp")
    known = np.bincount(log.sequences.item_index[training.is_training_event], minlength=log.items.height)
    events = asked.facts.features(log.sequences, pairs)["events"]
    np.testing.assert_allclose(events, np.log1p(known[pairs["item_index"]]))


def test_a_list_is_no_longer_than_the_catalogue(log):
    recommender = made(log)
    assert recommender.best_lists(now(recommender, repeat=True), 10**12).items.shape == (5, log.items.height)


def test_facts_of_items_count_what_others_did_until_the_moment_under_the_live_protocol(log):
    known = np.arange(len(log.sequences.item_index)) % 2 == 0
    training = Training(log, known)
    recommender = FittedRecommender.from_choice(
        training,
        Choice(kind="item_knn", order="candidates", sources={"popularity": {}, "item_knn": {}}),
        RecommendationConfig.model_validate(PARAMETERS["recommendation"] | {"protocol": "live"}),
    )
    pairs = log.now(pl.DataFrame({"user_index": [0] * log.items.height, "item_index": range(log.items.height)}))
    counted = {
        name: np.expm1(each.facts.features(log.sequences, pairs)["events"]).round()
        for name, each in (("fitted", recommender), ("live", recommender.as_measured(training)))
    }
    items = log.sequences.item_index
    np.testing.assert_array_equal(counted["fitted"], np.bincount(items[known], minlength=log.items.height))
    np.testing.assert_array_equal(counted["live"], np.bincount(items, minlength=log.items.height))
