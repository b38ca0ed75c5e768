from dataclasses import replace
from functools import partial

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reclora_kedro.baselines.linear import LinearConfig, LinearSettings
from reclora_kedro.baselines.neighbours import ItemNeighbours, ItemNeighboursConfig
from reclora_kedro.baselines.popularity import PopularityConfig
from reclora_kedro.recommendation.candidates import candidate_sets, candidate_table, popularity, shortlist_candidates
from reclora_kedro.recommendation.sources import Choice, SourceSettings, current_source

from kedro_provenance.errors import MismatchError
from live_service import NOT_TRIED, block
from random_logs import interaction_tables, log_of
from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.lens.base import build_lens
from reclora_kedro.lens.states import lens_scores, lens_states
from reclora_kedro.recommendation import candidates
from reclora_kedro.recommendation.config import RecommendationConfig

SETTINGS = {
    "variant": "reclora",
    "users": None,
    "candidates": "unseen",
    "order": "validation",
    "validation_likes": None,
    "teaching_likes": None,
    "retrieved": 3,
    "exact_items": 1_000,
    "pool_items": 3,
    "pool_days": 1.0,
    "shortlist": None,
    "diversity": 0.0,
    "top_n": 2,
    "seed": 0,
}
NEAREST = ItemNeighboursConfig(events=5, nearest=100, recency=0.8, popularity_power=0.5, text_weight=0.0, **NOT_TRIED)
POPULARITY = PopularityConfig(days=(), validation_likes=1, seed=0)
LINEAR = LinearConfig.model_validate(block("recommendation", "linear"))
SOURCE_SETTINGS = SourceSettings(POPULARITY, NEAREST, LINEAR, exact_items=1_000)


def config(**changes):
    return RecommendationConfig(**SETTINGS | changes)


@given(interaction_tables(), st.sampled_from(["unseen", "popular_recent"]), st.integers(1, 6))
def test_candidates_are_never_seen_and_come_most_popular_first(interactions, kind, pool_items):
    log = log_of(interactions)
    days = 3 / 86_400
    sets = candidate_sets(log, kind, config(pool_items=pool_items, pool_days=days))
    counts = popularity(log.sequences, log.items.height, days)
    for index, user in enumerate(log.users["user_id"]):
        items = sets.for_user(user, index)
        seen = set(interactions.filter(pl.col("user_id") == user)["item_id"])
        assert not seen & set(log.items["item_id"].gather(items))
        assert (np.diff(counts[items]) <= 0).all()
        assert (np.diff(popularity(log.sequences, log.items.height, np.inf)[items[counts[items] == 0]]) <= 0).all()
        if kind == "unseen":
            assert len(items) == log.items.height - len(seen)
        else:
            assert (counts[items] > 0).all()
            assert len(items) <= pool_items
    assert set(sets.for_user("nobody", None)) == set(sets.pool)


def test_popularity_counts_the_events_of_the_last_days():
    day = 86_400
    interactions = pl.DataFrame(
        {
            "user_id": ["ann", "bob", "cid", "dora"],
            "item_id": [3, 3, 5, 8],
            "timestamp": [1, 9 * day, 10 * day, 10 * day + 1],
            "rating": [1.0, 5.0, 5.0, 5.0],
            "label": [0, 1, 1, 1],
        }
    )
    sequences = log_of(interactions).sequences
    assert popularity(sequences, 5, days=1.0).tolist() == [0, 1, 1, 0, 0]
    assert popularity(sequences, 5, days=2.0).tolist() == [1, 1, 1, 0, 0]
    assert popularity(sequences, 5, days=100).tolist() == [2, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "recommendation_candidates holds nothing: point it at a table"),
        ({"user_id": [], "item_id": []}, "recommendation_candidates has no row"),
        ({"user_id": [1], "movie": [2]}, "lacks item_id; its columns are user_id, movie"),
        (
            {"user_id": [1], "item_id": [1.5]},
            "'item_id' of recommendation_candidates.*row 1 holds 1.5.*whole numbers",
        ),
    ],
)
def test_an_unfit_table_is_refused(table, message):
    with pytest.raises(ValueError, match=message):
        candidate_table(table and pl.DataFrame(table))


def test_ids_of_a_table_are_read_as_those_of_raw_tables():
    users = pl.Series(["20", " 10", None], dtype=pl.Categorical)
    assert candidate_table(pl.DataFrame({"user_id": users, "item_id": [1.0, 2.0, 3.0]})).rows() == [
        ("20", 1),
        ("10", 2),
    ]


@given(interaction_tables(), st.integers(2, 6))
def test_neighbours_come_first_and_what_is_popular_behind_them(interactions, most):
    log = log_of(interactions)
    sets = candidate_sets(log, "neighbours", config())
    counts, neighbours = popularity(log.sequences, log.items.height, 1.0), ItemNeighbours(log, NEAREST)
    requested = log.find_users(log.users["user_id"])
    pairs = pl.concat(candidates._pairs_in_parts(sets, log.now(requested), 2))
    found = candidates.nearest(pairs, neighbours.score, most)
    for index, part in found.group_by("user_index"):
        items, seen = part["item_index"].to_list(), sets.seen(*index)
        if part["fallback"].all():
            continue
        assert len(items) == min(most, log.items.height - len(np.unique(seen)))
        assert not set(items) & set(seen)
        scores = neighbours.scores(*index, log.sequences.offsets[index[0] + 1])
        keys = list(zip(-scores[items], -counts[items], strict=True))
        assert keys == sorted(keys)
        left_out = np.setdiff1d(np.arange(log.items.height), [*items, *seen])
        assert all((-scores[item], -counts[item]) >= keys[-1] for item in left_out)


@pytest.fixture
def log(log):
    return replace(log, samples=log.samples.with_columns(split=pl.lit("train")))


class TestShortlist:
    @pytest.mark.parametrize("most", [None, 3])
    def test_ranks_what_each_user_has_not_seen_by_the_lens(self, lens, log, most):
        shortlist, report = shortlist_candidates(lens, log, None, config(shortlist=most), "unseen", "lens")
        pairs = pl.DataFrame({"user_index": range(5)}).join(
            pl.DataFrame({"item_index": range(12)}), how="cross", maintain_order="left"
        )
        pairs = pairs.with_columns(score=lens_scores(lens_states(lens, log, log.now(pairs.with_row_index("row")))))
        for user, part in shortlist.group_by("user_id", maintain_order=True):
            seen = log.sequences.item_index[slice(*log.sequences.offsets[user[0] : user[0] + 2])].tolist()
            own = pairs.filter(user_index=user[0]).filter(~pl.col("item_index").is_in(seen))
            best = own.sort("score", descending=True).head(most or 12)
            assert part["item_index"].to_list() == best["item_index"].to_list()
            assert part["lens_score"].to_list() == pytest.approx(best["score"].to_list(), abs=1e-6)
        assert shortlist["user_id"].unique(maintain_order=True).to_list() == list(range(5))
        assert shortlist.select("item_id", "title").equals(log.items[shortlist["item_index"]])
        assert report == {"users": 5, "fallbacks": 0, "empty_candidate_sets": 0, "unknown_items": 0}

    def test_keeps_candidates_as_they_come_where_the_lens_does_not_order_them(self, lens, log):
        source = partial(current_source, Choice(kind="neighbours", order="candidates"), SOURCE_SETTINGS, None, None)
        shortlist, _ = shortlist_candidates(lens, log, None, config(shortlist=3), "neighbours", "candidates", source)
        pairs = log.now(shortlist.with_row_index("row"))
        nearness = shortlist.with_columns(nearness=ItemNeighbours(log, NEAREST).score(pairs))
        for _, part in nearness.group_by("user_index"):
            assert part["nearness"].is_sorted(descending=True)
            assert part.height == 3
            assert part["lens_score"].is_finite().all()

    @pytest.mark.parametrize("kind", ["popularity", "neighbours", "linear", "fusion", "ranker"])
    def test_no_source_scores_every_item_of_a_large_catalogue(self, lens, log, monkeypatch, kind):
        linear = LinearSettings(regularization=1, recency=0.9, transition_weight=0.5)
        choice = Choice(kind=kind, order="candidates", linear=linear)
        exact, large = (
            partial(current_source, choice, replace(SOURCE_SETTINGS, exact_items=most), None, lens) for most in (12, 11)
        )
        users = config(users=(3, "nobody", 0, 4))
        expected = shortlist_candidates(lens, log, None, users, kind, "candidates", exact)
        monkeypatch.setattr(candidates, "_pairs_in_parts", None)
        shortlist, report = shortlist_candidates(lens, log, None, users, kind, "candidates", large)
        assert shortlist.drop("lens_score").equals(expected[0].drop("lens_score"))
        assert report == expected[1]

    def test_has_the_agreed_columns(self, lens, log):
        shortlist, _ = shortlist_candidates(lens, log, None, config(), "unseen", "lens")
        assert shortlist.schema == {
            "user_id": pl.Int64,
            "item_id": pl.Int64,
            "title": pl.String,
            "user_index": pl.Int32,
            "item_index": pl.Int32,
            "lens_score": pl.Float64,
            "fallback": pl.Boolean,
        }

    @pytest.mark.parametrize("kind", ["unseen", "neighbours"])
    def test_is_the_same_whatever_the_size_of_its_parts(self, lens, log, monkeypatch, workers_here, kind):
        settings = config(users=(3, "nobody", 0, 4), shortlist=4)
        source = (
            partial(current_source, Choice(kind=kind, order="lens"), SOURCE_SETTINGS, None, None)
            if kind == "neighbours"
            else None
        )
        whole, report = shortlist_candidates(lens, log, None, settings, kind, "lens", source)
        monkeypatch.setattr(candidates, "PAIRS_AT_ONCE", 7)
        for engine in (LOCAL, workers_here(3)):
            parts, report_of_parts = shortlist_candidates(lens, log, None, settings, kind, "lens", source, engine)
            assert whole.drop("lens_score").equals(parts.drop("lens_score"))
            np.testing.assert_allclose(whole["lens_score"], parts["lens_score"], rtol=1e-5)
            assert report == report_of_parts

    def test_falls_back_on_popularity_where_nothing_is_known_of_a_user(self, lens, log):
        shortlist, report = shortlist_candidates(
            lens, log, None, config(users=("nobody", 2), pool_days=100), NEAREST, "lens"
        )
        counts = popularity(log.sequences, 12, days=100)
        fallback = shortlist.filter("fallback")
        assert fallback["user_id"].to_list() == ["nobody"] * 2
        assert fallback["item_index"].to_list() == np.argsort(-counts, kind="stable")[:2].tolist()
        assert fallback["lens_score"].null_count() == fallback["user_index"].null_count() == 2
        assert shortlist["user_id"].unique(maintain_order=True).to_list() == ["nobody", "2"]
        assert (report["users"], report["fallbacks"]) == (2, 1)

    def test_falls_back_for_a_known_user_without_an_event(self, lens, log):
        users = pl.concat([log.users, pl.DataFrame({"user_id": [5], "gender": [None]})], how="vertical_relaxed")
        sequences = replace(log.sequences, offsets=np.append(log.sequences.offsets, log.sequences.offsets[-1]))
        wider = build_lens(lens.config, lens.sizes.model_copy(update={"users": 6})).freeze()
        shortlist, _ = shortlist_candidates(
            wider, replace(log, users=users, sequences=sequences), None, config(users=[5]), NEAREST, "lens"
        )
        assert shortlist["fallback"].to_list() == [True] * 2
        assert shortlist["user_index"].to_list() == [5] * 2

    def test_takes_candidates_from_a_table_seen_ones_included(self, lens, log):
        table = pl.DataFrame({"user_id": ["4", "4", "4", "1", "9"], "item_id": [0, 1, 99, 5, 2]})
        shortlist, report = shortlist_candidates(lens, log, table, config(), "table", "lens")
        assert sorted(shortlist.select("user_id", "item_id").rows()) == [(1, 5), (4, 0), (4, 1), (9, 2)]
        assert shortlist.filter("fallback")["user_id"].to_list() == [9]
        assert report == {"users": 3, "fallbacks": 1, "empty_candidate_sets": 0, "unknown_items": 1}

    def test_rows_of_users_who_can_be_none_of_the_log_are_nobodys_candidates(self, log):
        table = pl.DataFrame({"user_id": ["4", "x"], "item_id": [0, 1]})
        sets = candidate_sets(log, "table", config())
        given, _ = sets.with_table(table, log.users.schema["user_id"], log.items["item_id"])
        assert [*given.given] == [4]

    def test_reports_users_without_candidates(self, lens, log):
        table = pl.DataFrame({"user_id": [4], "item_id": [0]})
        shortlist, report = shortlist_candidates(
            lens, log, table, config(candidates="table", users=(4, 3)), NEAREST, "lens"
        )
        assert shortlist["user_id"].to_list() == [4]
        assert report["empty_candidate_sets"] == 1

    def test_refuses_a_lens_of_another_log(self, lens, log):
        with pytest.raises(MismatchError, match="The log has 7 items, but the lens knows 12"):
            shortlist_candidates(lens, replace(log, items=log.items[:7]), None, config(), "unseen", "lens")
