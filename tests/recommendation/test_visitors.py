"""Visitors from Python have the lists that the service makes of the same events."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient

from live_service import served
from reclora_kedro import Recommender
from reclora_kedro.recommendation.visitors import with_visitors
from reclora_kedro.serving.app import create_app
from shop import shop

ORDERS, THINGS = shop()
END = int(ORDERS["bought_at"].dt.epoch("s").max())
RANDOM = np.random.default_rng(3)
LOG = ORDERS.select(
    user_id="customer",
    item_id="sku",
    rating=pl.Series(RANDOM.integers(1, 6, ORDERS.height)),
    timestamp=pl.col("bought_at").dt.epoch("s"),
    plays=pl.Series(RANDOM.integers(0, 9, ORDERS.height).astype(float)),
    device=pl.Series(RANDOM.choice(["phone", "tablet"], ORDERS.height)),
)
COLUMNS = {"plays": {"kind": "weight"}, "device": {"kind": "category"}}
DAY = 86_400
EVENTS = [  # not in the order of time; one of an unknown item; two of one item and second, of which one is kept
    ("sku-03", 5, END - DAY, {"plays": 4, "device": "phone"}),
    ("sku-21", 2, END - 3 * DAY, {"plays": 1}),
    ("no such", 5, END - DAY, {}),
    ("sku-30", 4, END - 2 * DAY, {"plays": 0}),
    ("sku-07", 1, END - 2 * DAY, {"plays": 8, "device": "watch"}),
    ("sku-07", 4, END - 2 * DAY, {"plays": 2}),
    ("sku-11", 5, END + 9 * DAY, {"plays": 3}),  # later than the log
]


def fitted(log=LOG, **settings):
    settings = {"encoders": ["tfidf"], "sources": ["popularity", "item_knn", "linear", "own_items"]} | settings
    return Recommender.fit(log, THINGS.select(item_id="sku", title="name"), **settings)


def history(events=EVENTS):
    named = ({"item_id": item, "rating": rating, "timestamp": second} for item, rating, second, _ in events)
    return [event | further for event, (*_, further) in zip(named, events, strict=True)]


@pytest.mark.parametrize("method", ["popularity", "item_knn", "linear", "own_items", "fusion"])
@pytest.mark.parametrize("kept", ["highest_rating", "lowest_rating"])
def test_a_visitor_with_ratings_times_and_weights_has_the_list_of_the_service(method, kept, tmp_path):
    recommender = fitted(columns=COLUMNS, method=method, duplicates=kept)
    sent = [{"item": item, "rating": rating, "time": second, **further} for item, rating, second, further in EVENTS]
    others = [["sku-01", "sku-22"], [], history(EVENTS[:2])]
    lists = recommender.recommend(histories=[*others, history()], n=20)
    own = lists.filter(user_id=3)
    with TestClient(create_app(served(recommender, tmp_path))) as client:
        listed = client.post("/recommend", json={"history": sent, "n": 20}).json()["items"]
    assert own["item_id"].to_list() == [each["item"] for each in listed]
    np.testing.assert_allclose(own["score"], [each["score"] for each in listed], rtol=1e-6)
    alone = recommender.recommend(histories=others, n=20)
    assert alone.equals(lists.filter(pl.col("user_id") < 3))  # whatever the last one's times are
    frame = pl.DataFrame(history(), infer_schema_length=None).with_columns(pl.from_epoch("timestamp"))
    for table in (frame, frame.with_columns(pl.col("timestamp").dt.replace_time_zone("UTC")).to_dicts()):
        assert recommender.recommend(histories=[table], n=20).drop("user_id").equals(own.drop("user_id"))


def test_events_of_visitors_keep_their_columns():
    recommender = fitted(columns=COLUMNS, method="linear")
    visited, visitors = with_visitors(recommender, [history(), ["sku-05"]], ingestion=recommender.ingestion)
    assert visited.log.now(visitors)["timestamp"].to_list() == [END + 9 * DAY + 1, END + 1]  # each in its own time
    events, first = visited.log.sequences, visited.log.sequences.offsets[-3]
    items = visited.log.items["item_id"].gather(events.item_index[first:]).to_list()
    assert items == ["sku-21", "sku-30", "sku-07", "sku-03", "sku-11", "sku-05"]
    assert events.rating[first:].tolist() == [2, 4, 4, 5, 5, 5]
    assert events.label[first:].tolist() == [0, 0, 1, 1, 1, 1]  # what weighs nothing is no like
    assert events.timestamp[first + 4] == END + 9 * DAY
    assert np.array_equal(events.rating_level[first:], events.rating[first:] - 1)
    assert events.schema.values_of(events.declared, first + 3) == {"plays": 4, "device": "phone"}


def test_an_event_that_weighs_nothing_is_no_like_of_a_visitor_either():
    recommender = fitted(LOG.drop("rating"), columns=COLUMNS, method="linear")
    told = [{"item_id": "sku-05", "plays": 0}, {"item_id": "sku-06", "plays": 1}, "sku-07"]
    visited, _ = with_visitors(recommender, [told], ingestion=recommender.ingestion)
    assert visited.log.sequences.label[-3:].tolist() == [0, 1, 1]


def test_what_was_shown_and_not_clicked_is_no_event_of_a_visitor():
    clicks = LOG.select("user_id", "item_id", "timestamp", clicked=pl.col("rating") > 2)
    recommender = fitted(clicks, method="item_knn")
    assert recommender.ingestion.interactions.has_impressions
    told = [{"item_id": "sku-05", "clicked": False}, {"item_id": "sku-06", "clicked": True}]
    assert recommender.recommend(histories=[told]).equals(recommender.recommend(histories=[["sku-06"]]))


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"rating": 9}, r"histories\[1\]\[0\]\.rating is 9: it must be from 1 to 5"),
        ({"rating": "5"}, r"histories\[1\]\[0\]\.rating is '5': it must be from 1 to 5"),
        ({"rating": 5, "clicked": True}, "and not clicked"),
        ({"timestamp": 5}, r"histories\[1\]\[0\]\.timestamp is .5.: it must be a time from "),
        ({"timestamp": "yesterday"}, r"histories\[1\]\[0\]\.timestamp is .yesterday.: it must be a time"),
        ({"timestamp": datetime(2020, 1, 2, tzinfo=UTC)}, r"histories\[1\] has times of 1 of its 2 events"),
        ({"plays": -1}, r"histories\[1\]\[0\]\.plays is -1"),
        ({"title": "x"}, r"histories\[1\]\[0\]\.title is 'x': one of the columns plays, device"),
    ],
)
def test_unfit_events_of_visitors_are_refused(event, message):
    recommender = fitted(columns=COLUMNS, method="popularity")
    with pytest.raises(ValueError, match=message):
        recommender.recommend(histories=[[], [{"item_id": "sku-01"} | event, "sku-02"]])


def test_a_stored_recommender_reads_further_events_alike(tmp_path):
    recommender = fitted(columns=COLUMNS, method="linear")
    recommender.save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model")
    assert loaded.ingestion == recommender.ingestion
    assert loaded.recommend(histories=[history()]).equals(recommender.recommend(histories=[history()]))
