"""Events after a fit: a recommender that knows them, and one that is measured by them."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient

from live_service import served
from reclora_kedro import Recommender
from reclora_kedro.candidates.item_model import Training
from reclora_kedro.recommendation.recommender import FittedRecommender
from reclora_kedro.serving.app import create_app
from shop import CUSTOMERS, shop

ORDERS, THINGS = shop()
RANDOM = np.random.default_rng(5)
LOG = ORDERS.select(
    who="customer",
    item_id="sku",
    stars=pl.Series(RANDOM.integers(1, 6, ORDERS.height)),
    when=pl.col("bought_at").dt.epoch("s"),
    plays=pl.Series(RANDOM.integers(0, 9, ORDERS.height).astype(float)),
    device=pl.Series(RANDOM.choice(["phone", "tablet"], ORDERS.height)),
)
COLUMNS = {"user_id": "who", "rating": "stars", "timestamp": "when"}
COLUMNS |= {"plays": {"kind": "weight"}, "device": {"kind": "category"}}
ITEMS = THINGS.select(item_id="sku", title="name")
IS_LATER = pl.int_range(pl.len()).over("who") >= 10
NEW = pl.DataFrame([("new", "sku-03", 5, LOG["when"].max() + 60, 2.0, "watch")], LOG.schema, orient="row")
EARLIER, LATER = LOG.filter(~IS_LATER), pl.concat([LOG.filter(IS_LATER).sample(fraction=1, shuffle=True, seed=1), NEW])
METHODS = ["popularity", "item_knn", "linear", "own_items"]


def fitted(log=EARLIER, **settings):
    return Recommender.fit(log, ITEMS, **{"encoders": ["tfidf"], "columns": COLUMNS, "sources": METHODS} | settings)


@pytest.fixture(scope="module")
def recommender():
    return fitted()


def events_of(recommender):
    """The events of each user by id, as a log has them, in words."""
    log, events = recommender.log, recommender.log.sequences
    names = {"item_id": log.items["item_id"].gather(events.item_index), "rating": events.rating, "label": events.label}
    frame = pl.DataFrame(names | {"timestamp": events.timestamp})
    further = [events.schema.values_of(events.declared, event) for event in range(frame.height)]
    rows = frame.with_columns(further=pl.Series(map(str, further))).rows()
    runs = zip(log.users["user_id"], events.starts, events.ends, strict=True)
    return {user: rows[start:end] for user, start, end in runs}


@pytest.mark.parametrize("method", [*METHODS, "fusion"])
def test_later_events_make_the_lists_of_the_service_after_them(method, tmp_path):
    before = fitted(method=method)
    users, first = [*before.log.users["user_id"], "new"], before.recommend(n=20)
    grown = before.with_events(LATER)
    lists = grown.recommend(users, n=20)
    sent = LATER.select(user="who", item="item_id", rating="stars", time="when", plays="plays", device="device")
    with TestClient(create_app(served(before, tmp_path))) as client:
        assert client.post("/events", json={"events": sent.to_dicts()}).json()["accepted"] == LATER.height
        for user in users:
            listed = client.post("/recommend", json={"user": user, "n": 20}).json()["items"]
            own = lists.filter(user_id=user)
            assert own["item_id"].to_list() == [each["item"] for each in listed]
            scores = [np.nan if each["score"] is None else each["score"] for each in listed]
            np.testing.assert_allclose(own["score"].fill_null(np.nan), scores, rtol=1e-6)
    assert not lists.filter(pl.col("user_id") != "new").equals(first)
    assert before.recommend(n=20).equals(first)


def test_later_events_are_read_as_those_of_the_log(recommender):
    grown = recommender.with_events(LATER)
    assert events_of(grown) == events_of(fitted(pl.concat([LOG, NEW])))
    assert grown.log.users.height == CUSTOMERS + 1
    assert events_of(recommender) == events_of(fitted())
    halves = recommender.with_events(LATER[:100]).with_events(LATER[50:])
    assert events_of(halves) == events_of(grown)
    assert halves.recommend(n=5)["user_id"].n_unique() == CUSTOMERS + 1


def test_without_times_later_rows_follow_and_joined_times_are_read(tmp_path):
    ordered = fitted(EARLIER.select("who", "item_id"), columns={"user_id": "who"})
    grown = ordered.with_events(LATER.filter(who="K1").select("who", "item_id"))
    [first, last] = LATER.filter(who="K1")["item_id"][[0, -1]]
    own = [item for item, *_ in events_of(grown)["K1"]]
    assert len(own) == 14
    assert (own[10], own[-1]) == (first, last)
    told = pl.from_epoch("when").dt.to_string
    days = EARLIER.select("who", "item_id", day=told("%Y-%m-%d"), time=told("%H:%M:%S"))
    later = LATER.select("who", "item_id", day=told("%Y-%m-%d"), time=told("%H:%M:%S"))
    joined = fitted(days, columns={"user_id": "who", "timestamp": ["day", "time"]}).with_events(later)
    assert [row[3] for row in events_of(joined)["K1"]] == LOG.filter(who="K1")["when"].to_list()


def test_unfit_events_are_told(recommender, caplog):
    odd = LATER[:3].with_columns(
        item_id=pl.Series(["no such", "sku-01", "sku-02"]), stars=pl.Series([5, 9, 4]), who=pl.lit("K1")
    )
    with pytest.raises(ValueError, match=r"ranges from 4 to 9, and 1 of 3 rows have a rating outside 1 to 5"):
        recommender.with_events(odd)
    grown = recommender.with_events(odd.with_columns(stars=4))
    assert "events has 1 unknown items, which are left out: 'no such'" in caplog.text
    assert len(events_of(grown)["K1"]) == 12
    with pytest.raises(ValueError, match=r"has no column 'when', only: who"):
        recommender.with_events(LATER.drop("when"))
    numbered = fitted(EARLIER.with_columns(who=pl.col("who").str.slice(1).cast(pl.Int64)))
    with pytest.raises(ValueError, match="none of 1 rows has a user_id of type Int64"):
        numbered.with_events(NEW)
    for call in (grown.evaluate, lambda: grown.save("folder"), lambda: grown.with_items(ITEMS[:1])):
        with pytest.raises(ValueError, match="knows 2 events that its models have not learned from"):
            call()


def figures(table, method):
    return table.filter(method=method).select("hit_rate", "ndcg", "likes").row(0)


def by_loop(likes, list_of):
    """Hit rate, NDCG and number of likes, from the list of each."""
    ranks = [[*list_of(user, second), item].index(item) for user, item, second in likes]
    gains = [1 / np.log2(2 + rank) if rank < 10 else 0 for rank in ranks]
    return np.mean([rank < 10 for rank in ranks]), np.mean(gains), len(likes)


def likes_of(table):
    liked = table.filter(pl.col("stars") >= 4, pl.col("plays") > 0)
    return liked.select("who", "item_id", "when").rows()


@pytest.mark.parametrize("method", ["linear", "own_items"])
def test_methods_are_measured_by_events_that_anybody_held_out(method):
    known = fitted(method=method)
    table = known.evaluate(test=LATER, likes=None)

    def list_then(user, second):
        then = LATER.filter(pl.col("when") < second)
        now = known.with_events(then) if then.height else known
        return now.recommend(user, n=10)["item_id"].to_list()

    assert figures(table, method) == pytest.approx(by_loop(likes_of(LATER), list_then))
    assert table.columns == known.evaluate().columns
    low, high = table.filter(method=method).select("ndcg_low", "ndcg_high").row(0)
    assert low < figures(table, method)[1] < high
    assert known.evaluate(test=LATER, likes=50)["likes"].to_list() == [50] * table.height
    users = known.evaluate(test=LATER, likes=None, per_user=True).filter(method=method)
    assert np.average(users["ndcg"], weights=users["likes"]) == pytest.approx(figures(table, method)[1])


@pytest.mark.parametrize("seed", [None, 2])
def test_frozen_lists_are_those_of_the_end_of_the_training(seed):
    test = LATER if seed is None else LOG.sample(fraction=0.3, shuffle=True, seed=seed)  # also from amidst
    known = fitted(pl.concat([LOG, NEW]).join(test, on=LOG.columns, how="anti", maintain_order="left"))
    lists = {user: own["item_id"].to_list() for (user,), own in known.recommend(n=10).group_by("user_id")}
    table = known.evaluate(test=test, likes=None, frozen=True)
    popular = known.recommend("new", n=10)["item_id"].to_list()
    expected = by_loop(likes_of(test), lambda user, _: lists.get(user, popular))
    assert figures(table, known.choice.name) == pytest.approx(expected)
    assert figures(known.evaluate(test=test, likes=None), known.choice.name) != pytest.approx(expected)


def test_a_like_of_what_the_training_has_later_is_no_like_of_a_frozen_list(recommender):
    before = EARLIER[:1].with_columns(pl.col("when") - 9, stars=pl.lit(5, pl.Int64), plays=2.0)
    tests = [LATER, pl.concat([LATER, before])]
    frozen, live = (
        [recommender.evaluate(test=test, likes=None, frozen=each) for test in tests] for each in (True, False)
    )
    assert frozen[0].equals(frozen[1])
    assert live[0]["likes"][0] + 1 == live[1]["likes"][0]


def test_frozen_lists_of_the_own_split_know_the_training_events_alone(recommender):
    log = recommender.log
    trains = log.training_events()
    known = replace(log, sequences=log.sequences.where(trains))
    at_end = FittedRecommender.from_choice(Training.from_split(log), recommender.choice, recommender.config)
    lists = Recommender(**vars(replace(at_end, log=known))).recommend(n=10)
    own = {user: part["item_id"].to_list() for (user,), part in lists.group_by("user_id")}
    samples = log.samples.filter(split="test", label=1)
    user, item = log.users["user_id"].gather(samples["user_index"]), log.items["item_id"].gather(samples["item_index"])
    expected = by_loop([*zip(user, item, samples["timestamp"], strict=True)], lambda user, _: own[user])
    table = recommender.evaluate(likes=None, frozen=True)
    assert figures(table, recommender.choice.name) == pytest.approx(expected)


def test_events_that_a_recommender_was_fitted_to_are_no_test_of_it(recommender):
    some = pl.concat([LATER, EARLIER[:3].with_columns(stars=pl.lit(5, pl.Int64))])
    first = f"such as {EARLIER['item_id'][0]!r} of {EARLIER['who'][0]!r}"
    with pytest.raises(ValueError, match=f"test has 3 of its {LATER.height + 3} events in the log, {first}"):
        recommender.evaluate(test=some)
    with pytest.raises(ValueError, match="draws likes of 1 user"):
        recommender.evaluate(test=LATER.filter(who="K1"))
    likes = LOG.select("who", "item_id")
    unordered = fitted(likes.filter(~IS_LATER), columns={"user_id": "who"})
    with pytest.raises(ValueError, match="test has 3 of its 3 events in the log"):
        unordered.evaluate(test=likes[:3])
