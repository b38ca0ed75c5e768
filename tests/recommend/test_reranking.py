import numpy as np
import polars as pl
import pytest

from reclora_kedro.histories.retrieval import WindowConfig
from reclora_kedro.lens.states import lens_states
from reclora_kedro.recommend.config import RankingConfig
from reclora_kedro.recommend.ranking import candidate_gate_inputs, candidate_histories
from reclora_kedro.recommend.reranking import reranked, reranking_pairs

CONFIG = RankingConfig(
    users=None,
    rows=None,
    candidates="full",
    sampled=3,
    cutoffs=(3,),
    variant="reclora",
    shortlist=3,
    tokens_per_batch=400,
    seed=0,
    bootstrap={"confidence": 0.95, "samples": 10, "seed": 0},
)


def first_ranks(targets, better, ties=None, moments=None):
    """Ranks of likes by item neighbours whose five best of ten items are always the items 4, 3, 2, 1, 0."""
    rows = len(targets)
    return pl.DataFrame(
        {
            "model": ["neighbours"] * rows,
            "row": range(rows),
            "user_index": pl.Series([2] * rows, dtype=pl.Int32),
            "item_index": pl.Series(targets, dtype=pl.Int32),
            "history_end": range(16, 16 + rows) if moments is None else moments,
            "timestamp": range(17, 17 + rows) if moments is None else moments,
            "better": better,
            "ties": [0] * rows if ties is None else ties,
            "candidates": [10] * rows,
            "top_items": pl.Series([[4, 3, 2, 1, 0]] * rows, dtype=pl.List(pl.Int32)),
        }
    )


def scored(ranks, scores):
    """Scores of the shortlist's items by item."""
    pairs = reranking_pairs(ranks, CONFIG.shortlist).drop("fallback").rename({"item_index": "candidate"})
    return pairs.with_columns(score=pl.col("candidate").replace_strict(scores, return_dtype=pl.Float64))


def test_a_target_of_the_shortlist_has_its_rank_by_the_llm():
    ranks = first_ranks([4, 3, 2], better=[0, 1, 2])
    result = reranked(ranks, scored(ranks, {4: 0.1, 3: 0.9, 2: 0.5}), CONFIG.shortlist, "reclora")
    assert result["better"].to_list() == [2, 0, 1]
    assert result["ties"].to_list() == [0, 0, 0]
    assert result["top_items"].to_list() == [[3, 2, 4, 1, 0]] * 3
    assert result["model"].to_list() == ["reclora"] * 3
    assert result.schema == ranks.schema


def test_a_target_that_missed_the_shortlist_keeps_its_rank():
    ranks = first_ranks([1, 7], better=[3, 8])
    result = reranked(ranks, scored(ranks, {4: 0.1, 3: 0.9, 2: 0.5}), CONFIG.shortlist, "reclora")
    assert result.select("better", "ties").equals(ranks.select("better", "ties"))


def test_equal_scores_of_the_llm_are_ties():
    ranks = first_ranks([4, 3], better=[0, 1])
    result = reranked(ranks, scored(ranks, {4: 0.5, 3: 0.5, 2: 0.5}), CONFIG.shortlist, "reclora")
    assert result.select("better", "ties").rows() == [(0, 2)] * 2
    assert result["top_items"].to_list() == [[4, 3, 2, 1, 0]] * 2


def test_a_target_that_missed_the_shortlist_by_a_tie_comes_behind_it():
    ranks = first_ranks([0, 0], better=[2, 0], ties=[3, 9])
    result = reranked(ranks, scored(ranks, {4: 0.1, 3: 0.9, 2: 0.5}), CONFIG.shortlist, "reclora")
    assert result.select("better", "ties").rows() == [(3, 2), (3, 6)]


def test_pairs_of_likes_of_one_moment_are_scored_once():
    ranks = first_ranks([4, 3, 2], better=[0, 1, 2], moments=[16, 16, 17])
    pairs = reranking_pairs(ranks, CONFIG.shortlist)
    assert pairs.height == 6
    result = reranked(ranks, scored(ranks, {4: 0.1, 3: 0.9, 2: 0.5}), CONFIG.shortlist, "reclora")
    assert result["better"].to_list() == [2, 0, 1]


@pytest.mark.parametrize("kind", ["recent", "retrieved"])
def test_prompts_show_nothing_of_the_like_or_later(log, kind):
    pairs = reranking_pairs(first_ranks([4, 3], better=[0, 1]), CONFIG.shortlist)
    events = candidate_histories(log, pairs, WindowConfig(kind=kind, k=5))
    assert events.shape[0] == pairs.height == 6
    assert (events < pairs["history_end"].to_numpy()[:, None]).all()
    assert events.max() == 16


def test_gates_that_read_the_user_alone_read_one_input_per_moment(lens, log):
    pairs = reranking_pairs(first_ranks([4, 3], better=[0, 1]), CONFIG.shortlist)
    inputs = candidate_gate_inputs(lens, log, pairs, "user")
    states = lens_states(lens, log.at(pairs), np.arange(pairs.height))
    np.testing.assert_allclose(inputs["user"], states["user"], atol=1e-6)
    np.testing.assert_array_equal(inputs.lens_logits, states["logit"])
    assert len(inputs["user"].unique(dim=0)) == 2
