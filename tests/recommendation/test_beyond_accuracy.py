from dataclasses import replace
from itertools import combinations

import numpy as np
import polars as pl
import pytest

from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.segments import ALL, EVENT_BEFORE
from reclora_kedro.recommendation.item_ranks import rank_likes
from reclora_kedro.recommendation.list_metrics import (
    DIVERSITY,
    FIELD_DIVERSITY,
    POPULARITY,
    TAIL_SHARE,
    Catalogue,
    RankedLists,
    gini,
)
from reclora_kedro.recommendation.ranking_metrics import compute_beyond_accuracy
from scored import ByItem, moments_of

LISTS = pl.Series([[0, 1, 2], [1, 5, 3], [0, 4, 1]])
EVENTS = np.array([9, 6, 4, 2, 1, 1])
VECTORS = np.array([[1, 0], [0, 1], [0.6, 0.8], [0.8, 0.6], [-1, 0], [0, 1]])
BOOTSTRAP = Bootstrap(confidence=0.95, seed=0).model_copy(update={"samples": 100})
USERS = 9  # of whom the first ones took each item
CATALOGUE = Catalogue(pl.DataFrame(), EVENTS, VECTORS)


def of_lists(lists, k, catalogue=CATALOGUE):
    return RankedLists(np.full(len(lists), np.inf), lists, k, catalogue)


@pytest.mark.parametrize(
    ("k", "diversity", "popularity", "novelty", "coverage"),
    [
        (2, 1.0, 5.333333333333333, 1.251629167387823, 4),
        (3, 0.7111111111111111, 4.888888888888888, 1.2705097231036355, 6),
    ],
)
def test_metrics_equal_those_of_rectools(k, diversity, popularity, novelty, coverage):
    """Of RecTools 0.19.0: IntraListDiversity by 1 - cosine, AvgRecPopularity, MeanInvUserFreq and CatalogCoverage."""
    lists = of_lists(LISTS, k)
    assert DIVERSITY.values(3, lists).mean() == pytest.approx(diversity)
    assert POPULARITY.values(3, lists).mean() == pytest.approx(popularity)
    assert lists.mean(-np.log2(EVENTS / USERS)).mean() == pytest.approx(novelty)
    assert (lists.items.sum(axis=0) > 0).sum() == coverage


def test_the_head_holds_most_of_the_events():
    assert CATALOGUE.is_tail.tolist() == [False, False, False, True, True, True]  # 19 of 23 events, over 80%
    assert TAIL_SHARE.values(3, of_lists(LISTS, 3)) == pytest.approx([0, 2 / 3, 1 / 3])


@pytest.mark.parametrize("counts", [[3, 0, 0, 1, 7, 2, 2], [1, 1, 1, 1], [0, 0, 5]])
def test_gini_is_half_the_relative_mean_difference(counts):
    mean_difference = np.mean([abs(one - other) for one in counts for other in counts])
    assert gini(counts) == pytest.approx(mean_difference / (2 * np.mean(counts)), abs=1e-12)


def test_fields_differ_by_their_values_and_a_list_of_one_item_has_no_pairs():
    items = pl.DataFrame({"item_id": [1, 2, 3], "genres": ["War, Drama", "War", None], "decade": ["90s", None, "90s"]})
    lists = of_lists(pl.Series([[0, 1], [0, 2], [1, 2], [0]]), 3, Catalogue(items, np.ones(3)))
    expected = [1 - 1 / np.sqrt(3), 1 - 1 / np.sqrt(3), 1, np.nan]
    np.testing.assert_allclose(FIELD_DIVERSITY.per_row(lists), expected)
    assert np.isnan(DIVERSITY.per_row(lists)).all()
    assert Catalogue(items.select("item_id"), np.ones(3)).fields is None


def all_training(log):
    log = replace(log, samples=log.samples.with_columns(split=pl.lit("train")))
    return log, log.samples.filter(label=1).sort("row")


def test_each_segment_has_the_metrics_of_its_own_lists(log):
    log, likes = all_training(log)
    random = np.random.default_rng(0)
    models = {name: ByItem(random.integers(0, 4, log.items.height)) for name in ("popularity", "lens")}
    ranks = rank_likes(models, moments_of(log, likes), likes, limit=3)
    records = compute_beyond_accuracy(ranks, log, [1, 3], BOOTSTRAP)
    catalogue, lens = Catalogue.from_log(log), ranks.filter(model="lens")
    [whole] = [record for record in records if (record["model"], record["k"], record["segment"]) == ("lens", 3, ALL)]
    lists = lens["top_items"].to_list()
    assert whole["rows"] == len(lists)
    assert whole["coverage"] == len({item for of in lists for item in of}) / log.items.height
    distances = [[1 - catalogue.vectors[i] @ catalogue.vectors[j] for i, j in combinations(of, 2)] for of in lists]
    assert whole["diversity"] == pytest.approx(np.mean(distances), rel=1e-5)
    popular, found = (own["rank"].is_not_null().to_numpy() for _, own in ranks.group_by("model", maintain_order=True))
    assert whole["serendipity"] == pytest.approx(np.mean(found & ~popular))
    assert {record["serendipity"] for record in records if record["model"] == "popularity"} != {None}
    assert whole["hit_rate_low"] < whole["hit_rate"] < whole["hit_rate_high"]
    bands = [record for record in records if (record["model"], record["k"]) == ("lens", 3)][1:]
    assert sum(record["rows"] for record in bands) == whole["rows"]
    assert [record["diversity"] for record in records if record["k"] == 1] == [None] * 4

    alone = compute_beyond_accuracy(ranks.filter(model="lens"), log, [1, 3], BOOTSTRAP)  # where no method is popularity
    of_lens = [record for record in records if record["model"] == "lens"]
    assert alone == [record | {"serendipity": None} for record in of_lens]


def test_likes_of_the_time_of_the_event_before_are_a_segment_of_their_own(log):
    log, likes = all_training(log)
    ranks = rank_likes({"popularity": ByItem(np.arange(log.items.height))}, moments_of(log, likes), likes, limit=3)
    before = [record for record in compute_beyond_accuracy(ranks, log, [3], BOOTSTRAP) if record["by"] == EVENT_BEFORE]
    assert before == []  # histories end before the moment, by default

    events = log.sequences
    last = np.maximum(ranks["history_end"].to_numpy() - 1, 0)
    moved = ranks.with_columns(
        timestamp=pl.when(pl.col("row") % 2 == 0).then(events.timestamp[last]).otherwise(pl.col.timestamp)
    )
    records = compute_beyond_accuracy(moved, log, [3], BOOTSTRAP)
    same, later = [record for record in records if record["by"] == EVENT_BEFORE]
    expected = moved.filter(pl.col.row % 2 == 0, pl.col.history_end > np.asarray(events.offsets)[moved["user_index"]])
    assert (same["segment"], same["rows"]) == ("of the same time", expected.height)
    assert later["rows"] == ranks.height - same["rows"]
    assert same["hit_rate"] == pytest.approx(expected["rank"].is_not_null().mean())
