import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedro_provenance.errors import MismatchError
from reclora_kedro.evaluation.bootstrap import Bootstrap, holm
from reclora_kedro.recommendation.list_metrics import HIT_RATE, MRR, NDCG, Catalogue, RankedLists
from reclora_kedro.recommendation.ranking_metrics import (
    compare_with_baseline,
    compute_ranking_metrics,
    hit_rate_curves,
)

ITEMS = 12
DIFFERENCE = ("ndcg_difference", "ndcg_difference_low", "ndcg_difference_high", "p_value", "p_adjusted")
BOOTSTRAP = Bootstrap(confidence=0.9, seed=0).model_copy(update={"samples": 200})
BASELINES = ["lens"]
CATALOGUE = Catalogue(pl.DataFrame(), np.arange(ITEMS))


def ranks_of(rank, users=None, model="lens", top_items=None):
    """Ranks among all items, of one row per entry of `rank`; None for items that their lists lack."""
    rows = len(rank)
    return pl.DataFrame(
        {
            "model": [model] * rows,
            "row": np.arange(rows),
            "user_index": np.arange(rows) if users is None else users,
            "rank": pl.Series(rank, dtype=pl.Int64),
            "candidates": [ITEMS] * rows,
            "top_items": [list(range(ITEMS))] * rows if top_items is None else top_items,
        }
    )


def test_whoever_ranks_every_target_first_has_metrics_of_one():
    [record] = compute_ranking_metrics(ranks_of([1, 1, 1]), BASELINES, CATALOGUE, (3,), BOOTSTRAP)
    for name in ("hit_rate", "ndcg", "mrr"):
        assert record[name] == record[f"{name}_low"] == record[f"{name}_high"] == 1


@given(st.integers(1, ITEMS), st.integers(1, ITEMS))
def test_one_relevant_item_gains_by_its_rank_and_nothing_outside_the_list(rank, k):
    lists = RankedLists.from_ranks(ranks_of([rank]), k, CATALOGUE)
    assert HIT_RATE.values(1, lists) == (rank <= k)
    assert NDCG.values(1, lists) == pytest.approx(1 / np.log2(1 + rank) if rank <= k else 0, abs=1e-12)
    assert MRR.values(1, lists) == pytest.approx(1 / rank)


def test_an_item_that_its_list_lacks_gains_nothing():
    [record] = compute_ranking_metrics(ranks_of([None, 2]), BASELINES, CATALOGUE, (3,), BOOTSTRAP, (ITEMS,))
    assert (record["hit_rate"], record["mrr"], record[f"among_{ITEMS}"]) == (0.5, 0.25, 0.5)


def test_every_like_counts_the_same_and_beside_that_every_user():
    ranks = ranks_of([1, 1, 1, 10], users=[7, 7, 7, 8])
    [record] = compute_ranking_metrics(ranks, BASELINES, CATALOGUE, (1,), BOOTSTRAP)
    assert (record["hit_rate"], record["user_hit_rate"], record["users"], record["rows"]) == (0.75, 0.5, 2, 4)


def test_coverage_and_novelty_are_of_the_first_k_items():
    ranks = ranks_of([1, 1], top_items=[[0, 1, 2], [1, 5, 9]])
    first, second = compute_ranking_metrics(ranks, BASELINES, CATALOGUE, (1, 2), BOOTSTRAP)
    assert first["coverage"] == 2 / ITEMS
    information = -np.log2((np.arange(ITEMS) + 1) / 78)  # 66 events, and one for each of 12 items
    assert first["novelty"] == pytest.approx(information[[0, 1]].mean())
    assert second["coverage"] == 3 / ITEMS
    assert second["novelty"] == pytest.approx(information[[0, 1, 1, 5]].mean())


def test_intervals_are_of_whole_users_and_the_same_for_every_model():
    random = np.random.default_rng(1)
    users = np.repeat(np.arange(20), 5)
    rank = np.repeat(random.integers(1, ITEMS + 1, 20), 5)
    one_row_each, five_rows_each = (
        compute_ranking_metrics(ranks_of(rank[::step], users=users[::step]), BASELINES, CATALOGUE, (4,), BOOTSTRAP)
        for step in (5, 1)
    )
    for end in ("hit_rate_low", "hit_rate_high"):
        assert one_row_each[0][end] == pytest.approx(five_rows_each[0][end])
    again = pl.concat([ranks_of(rank), ranks_of(rank, model="reclora")])
    lens, reclora = compute_ranking_metrics(again, BASELINES, CATALOGUE, (4,), BOOTSTRAP)
    own = {name: value for name, value in reclora.items() if name not in DIFFERENCE}
    assert {name: value for name, value in lens.items() if name not in DIFFERENCE} | {"model": "reclora"} == own
    assert [reclora[name] for name in DIFFERENCE] == [0, 0, 0, 1, 1]
    assert lens["ndcg_low"] < lens["ndcg"] < lens["ndcg_high"]


def test_every_model_is_compared_with_the_best_baseline_on_the_same_users():
    random = np.random.default_rng(2)
    rank = random.integers(1, ITEMS, 200)
    models = {"popularity": rank + 1, "lens": rank, "reclora": np.maximum(rank - 1, 1), "tallrec": rank}
    ranks = pl.concat([ranks_of(places, model=model) for model, places in models.items()])
    records = compute_ranking_metrics(ranks, ["popularity", "lens"], CATALOGUE, (3, 5), BOOTSTRAP)
    assert {record["baseline"] for record in records} == {"lens"}
    of_model = {(record["model"], record["k"]): record for record in records}
    assert [of_model["lens", 3][name] for name in DIFFERENCE] == [None] * 5
    for k in (3, 5):
        worse, best, same = (of_model[model, k] for model in ("popularity", "reclora", "tallrec"))
        assert worse["ndcg_difference_high"] < 0 < best["ndcg_difference_low"]
        assert best["ndcg_difference"] == pytest.approx(best["ndcg"] - of_model["lens", k]["ndcg"])
        # A paired interval knows that both models rank the same rows: it is narrower than theirs.
        own = best["ndcg_high"] - best["ndcg_low"]
        assert best["ndcg_difference_high"] - best["ndcg_difference_low"] < own
        assert same["ndcg_difference"] == 0
        assert same["p_adjusted"] == 1
    pairs = [record for record in records if record["model"] != "lens"]
    np.testing.assert_allclose([pair["p_adjusted"] for pair in pairs], holm(np.array([p["p_value"] for p in pairs])))


def test_the_best_baseline_is_the_one_with_the_highest_mean_over_likes():
    of_users = {("popularity", 10): np.array([0.0, 1.0]), ("lens", 10): np.array([0.4, 0.4])}
    compared = compare_with_baseline(of_users, np.array([9.0, 1.0]), ["popularity", "lens"], BOOTSTRAP)
    assert {record["baseline"] for record in compared.values()} == {"lens"}


def test_ranks_of_other_rows_are_refused():
    mixed = pl.concat([ranks_of([1, 2]), ranks_of([1], model="reclora")])
    with pytest.raises(MismatchError, match="reclora ranked 1 rows and lens 2") as refused:
        compute_ranking_metrics(mixed, BASELINES, CATALOGUE, (1,), BOOTSTRAP)
    assert refused.value.entries == ("item_ranks", "reranked_item_ranks")


def test_likes_of_one_user_have_no_intervals():
    with pytest.raises(ValueError, match=r"likes of only one user: .* Raise `ranking\.rows`"):
        compute_ranking_metrics(ranks_of([1, 2], users=[7, 7]), BASELINES, CATALOGUE, (1,), BOOTSTRAP)


def test_the_curve_of_a_model_has_its_hit_rate_at_every_length():
    ranks = pl.concat([ranks_of([1, 4, 8]), ranks_of([None, 9, ITEMS], model="other")])
    for model, (lengths, shares) in hit_rate_curves(ranks).items():
        assert lengths.tolist() == list(range(1, ITEMS + 1))
        for k, share in zip(lengths.tolist(), shares, strict=True):
            [record] = compute_ranking_metrics(ranks.filter(model=model), [model], CATALOGUE, (k,), BOOTSTRAP)
            assert share == pytest.approx(record["hit_rate"])
