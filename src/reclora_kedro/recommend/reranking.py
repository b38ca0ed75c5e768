"""The second stage of a ranking: the item neighbours' shortlist of each moment, in a new order."""

import polars as pl

from reclora_kedro.adapters.gate_inputs import GateInputs
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.recommend.config import RankingConfig
from reclora_kedro.recommend.ranking import MOMENT, score_pairs

FIRST_STAGE = "neighbours"
"""The model whose best items are the shortlist."""


def reranking_pairs(item_ranks: pl.DataFrame, shortlist: int) -> pl.DataFrame:
    """The pairs that the second stage scores: the item neighbours' best items at each moment, each once.

    Args:
        item_ranks: see `rank_positives`.
        shortlist: most items of each moment.

    Returns:
        Frame with the columns of `MOMENT`, item_index, and fallback, which none of them is.
    """
    pairs = _shortlists(item_ranks, shortlist).select(*MOMENT, item_index="candidate")
    return pairs.unique(maintain_order=True).with_columns(fallback=pl.lit(False))


def rerank(
    model: AnswerModel,
    item_ranks: pl.DataFrame,
    prompts: pl.DataFrame,
    inputs: GateInputs,
    config: RankingConfig,
) -> pl.DataFrame:
    """Where the variant ranks each like: in the shortlist by its score; behind that, as the item neighbours do.

    Args:
        model: the base LLM with the variant's adapter.
        item_ranks: see `rank_positives`.
        prompts: of the pairs of `reranking_pairs`.
        inputs: of the same pairs, see `candidate_gate_inputs`.
        config: name of the variant, length of the shortlist, tokens per batch.

    Returns:
        The same columns as `item_ranks`, of the variant alone.

    Raises:
        ValueError: a score is not a number.
    """
    pairs = reranking_pairs(item_ranks, config.shortlist).with_row_index("row")
    scores = score_pairs(model, pairs, prompts, inputs, config.tokens_per_batch, by=MOMENT)
    if not scores.is_finite().all():
        raise ValueError(f"{config.variant}: some of the {len(scores)} scores are no numbers; train it again.")
    scored = pairs.select(*MOMENT, candidate="item_index", score=scores)
    assert config.variant is not None  # else there were no prompts
    return reranked(item_ranks, scored, config.shortlist, config.variant)


def reranked(item_ranks: pl.DataFrame, scored: pl.DataFrame, shortlist: int, model: str) -> pl.DataFrame:
    """A model's ranks by its scores of the shortlists' pairs: the columns of `MOMENT`, candidate, and score."""
    first_stage = item_ranks.filter(model=FIRST_STAGE)
    lists = _shortlists(item_ranks, shortlist).join(scored, on=[*MOMENT, "candidate"], how="left")
    own = pl.col("score").filter(pl.col("candidate") == pl.col("item_index")).first()
    by_row = lists.group_by("row").agg(
        listed=own.is_not_null(),
        above=(pl.col("score") > own).sum().cast(pl.Int64),
        equal=(pl.col("score") == own).sum().cast(pl.Int64) - 1,
        length=pl.len().cast(pl.Int64),
        order=pl.col("candidate").sort_by(-pl.col("score"), "place"),
    )
    # A like that missed the shortlist, perhaps by a tie with the last of it, comes after all of it.
    better = pl.when("listed").then("above").otherwise(pl.max_horizontal("better", "length"))
    ties = pl.when("listed").then("equal").otherwise(pl.col("better") + pl.col("ties") - better)
    rest = pl.col("top_items").list.slice(shortlist)
    return (
        first_stage.join(by_row, on="row", how="left", maintain_order="left")
        .with_columns(better=better, ties=ties, top_items=pl.concat_list("order", rest), model=pl.lit(model))
        .select(item_ranks.columns)
    )


def _shortlists(item_ranks: pl.DataFrame, shortlist: int) -> pl.DataFrame:
    """One line per like and item of its shortlist: row, item_index (the like's own), `MOMENT`, candidate, place."""
    lists = item_ranks.filter(model=FIRST_STAGE).select(
        "row", "item_index", *MOMENT, candidate=pl.col("top_items").list.head(shortlist)
    )
    return lists.explode("candidate").with_columns(place=pl.int_range(pl.len()).over("row"))
