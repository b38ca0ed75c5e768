import polars as pl
import pytest
from reclora_kedro.recommendation.reranking import rerank, reranking_questions

from reclora_kedro.history.retrieval import WindowConfig
from reclora_kedro.recommendation.config import RankingConfig

CONFIG = RankingConfig(
    users=None,
    rows=None,
    validation_likes=None,
    candidates="full",
    sampled=3,
    cutoffs=(3,),
    variant="reclora",
    shortlist=3,
    lens=True,
    retriever=False,
    baselines=(),
    baseline=None,
    among_first=(),
    seed=0,
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
    """The questions about the shortlist with a score by item."""
    questions = reranking_questions(ranks, "neighbours", CONFIG.shortlist)
    return questions.with_columns(score=pl.col("item_index").replace_strict(scores, return_dtype=pl.Float64))


def test_a_target_of_the_shortlist_has_its_rank_by_the_llm():
    ranks = first_ranks([4, 3, 2], better=[0, 1, 2])
    result = rerank(ranks, scored(ranks, {4: 0.1, 3: 0.9, 2: 0.5}), "neighbours", CONFIG.shortlist, "reclora")
    assert result["better"].to_list() == [2, 0, 1]
    assert result["ties"].to_list() == [0, 0, 0]
    assert result["top_items"].to_list() == [[3, 2, 4, 1, 0]] * 3
    assert result["model"].to_list() == ["reclora"] * 3
    assert result.schema == ranks.schema


def test_a_target_that_missed_the_shortlist_keeps_its_rank():
    ranks = first_ranks([1, 7], better=[3, 8])
    result = rerank(ranks, scored(ranks, {4: 0.1, 3: 0.9, 2: 0.5}), "neighbours", CONFIG.shortlist, "reclora")
    assert result.select("better", "ties").equals(ranks.select("better", "ties"))


def test_equal_scores_of_the_llm_are_ties():
    ranks = first_ranks([4, 3], better=[0, 1])
    result = rerank(ranks, scored(ranks, {4: 0.5, 3: 0.5, 2: 0.5}), "neighbours", CONFIG.shortlist, "reclora")
    assert result.select("better", "ties").rows() == [(0, 2)] * 2
    assert result["top_items"].to_list() == [[4, 3, 2, 1, 0]] * 2


def test_a_target_that_missed_the_shortlist_by_a_tie_comes_behind_it():
    ranks = first_ranks([0, 0], better=[2, 0], ties=[3, 9])
    result = rerank(ranks, scored(ranks, {4: 0.1, 3: 0.9, 2: 0.5}), "neighbours", CONFIG.shortlist, "reclora")
    assert result.select("better", "ties").rows() == [(3, 2), (3, 6)]


def test_pairs_of_likes_of_one_moment_are_scored_once():
    ranks = first_ranks([4, 3, 2], better=[0, 1, 2], moments=[16, 16, 17])
    assert reranking_questions(ranks, "neighbours", CONFIG.shortlist)["row"].to_list() == list(range(6))
    result = rerank(ranks, scored(ranks, {4: 0.1, 3: 0.9, 2: 0.5}), "neighbours", CONFIG.shortlist, "reclora")
    assert result["better"].to_list() == [2, 0, 1]


def test_scores_that_are_no_numbers_are_refused():
    ranks = first_ranks([4], better=[0])
    with pytest.raises(ValueError, match="reclora: some of the 3 scores are no numbers; train it again"):
        rerank(ranks, scored(ranks, {4: float("nan"), 3: 0.9, 2: 0.5}), "neighbours", CONFIG.shortlist, "reclora")


@pytest.mark.parametrize("kind", ["recent", "retrieved"])
def test_prompts_show_nothing_of_the_like_or_later(log, kind):
    questions = reranking_questions(first_ranks([4, 3], better=[0, 1]), "neighbours", CONFIG.shortlist)
    events = log.histories(questions, WindowConfig(kind=kind, k=5))
    assert events.shape[0] == questions.height == 6
    assert (events < questions["history_end"].to_numpy()[:, None]).all()
    assert events.max() == 16
