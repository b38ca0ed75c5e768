import polars as pl
import pytest

from reclora_kedro.history.retrieval import WindowConfig
from reclora_kedro.recommendation.item_ranks import rerank, reranking_questions

SHORTLIST = 3


def first_ranks(targets, moments=None):
    """Ranks of likes by Item-kNN whose five best items are always the items 4, 3, 2, 1, 0."""
    rows, best = len(targets), [4, 3, 2, 1, 0]
    return pl.DataFrame(
        {
            "model": ["item_knn"] * rows,
            "row": range(rows),
            "user_index": pl.Series([2] * rows, dtype=pl.Int32),
            "item_index": pl.Series(targets, dtype=pl.Int32),
            "history_end": range(16, 16 + rows) if moments is None else moments,
            "timestamp": range(17, 17 + rows) if moments is None else moments,
            "rank": pl.Series([best.index(item) + 1 if item in best else None for item in targets], dtype=pl.Int64),
            "candidates": [10] * rows,
            "top_items": pl.Series([best] * rows, dtype=pl.List(pl.Int32)),
        }
    )


def reranked(ranks, scores):
    """The same likes by a model with scores of the items in the shortlists."""
    questions = reranking_questions(ranks, "item_knn", SHORTLIST)
    scored = questions.with_columns(score=pl.col("item_index").replace_strict(scores, return_dtype=pl.Float64))
    return rerank(ranks, scored, "item_knn", SHORTLIST, "reclora")


def test_a_target_of_the_shortlist_has_its_rank_by_the_llm_and_another_one_keeps_its_own():
    ranks = first_ranks([4, 3, 2, 1, 7])
    result = reranked(ranks, {4: 0.1, 3: 0.9, 2: 0.5})
    assert result["rank"].to_list() == [3, 1, 2, 4, None]
    assert result["top_items"].to_list() == [[3, 2, 4, 1, 0]] * 5
    assert result["model"].to_list() == ["reclora"] * 5
    assert result.schema == ranks.schema


def test_equal_scores_of_the_llm_leave_the_order_of_the_first_stage():
    result = reranked(first_ranks([4, 3]), {4: 0.5, 3: 0.5, 2: 0.6})
    assert result["rank"].to_list() == [2, 3]
    assert result["top_items"].to_list() == [[2, 4, 3, 1, 0]] * 2


def test_pairs_of_likes_of_one_moment_are_scored_once():
    ranks = first_ranks([4, 3, 2], moments=[16, 16, 17])
    assert reranking_questions(ranks, "item_knn", SHORTLIST)["row"].to_list() == list(range(6))
    assert reranked(ranks, {4: 0.1, 3: 0.9, 2: 0.5})["rank"].to_list() == [3, 1, 2]


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="reclora: some of the 3 scores are not numbers; train it again"):
        reranked(first_ranks([4]), {4: float("nan"), 3: 0.9, 2: 0.5})


@pytest.mark.parametrize("kind", ["recent", "retrieved"])
def test_prompts_show_nothing_of_the_like_or_later(log, kind):
    questions = reranking_questions(first_ranks([4, 3]), "item_knn", SHORTLIST)
    events = log.histories(questions, WindowConfig(kind=kind, k=5))
    assert events.shape[0] == questions.height == 6
    assert (events < questions["history_end"].to_numpy()[:, None]).all()
    assert events.max() == 16
