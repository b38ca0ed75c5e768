"""Second stage of a ranking: the first stage's shortlist of each moment in a new order."""

import polars as pl

from reclora_kedro.history.questions import MOMENT, questions


def reranking_questions(item_ranks: pl.DataFrame, first_stage: str, shortlist: int) -> pl.DataFrame:
    """Return the distinct questions of the second stage: the first stage's `shortlist` best items at each moment."""
    pairs = _shortlists(item_ranks, first_stage, shortlist).select(*MOMENT, item_index="candidate")
    return questions(pairs.unique(maintain_order=True).with_row_index("row"))


def rerank(
    item_ranks: pl.DataFrame, scores: pl.DataFrame, first_stage: str, shortlist: int, model: str
) -> pl.DataFrame:
    """Rank each like by a model's scores in the shortlist, and by the first stage after it, as in `item_ranks`.

    Raises:
        ValueError: a score is not a number.
    """
    if not scores["score"].is_finite().all():
        raise ValueError(f"{model}: some of the {scores.height} scores are no numbers; train it again.")
    first = item_ranks.filter(model=first_stage)
    scored = scores.select(*MOMENT, "score", candidate="item_index")
    lists = _shortlists(item_ranks, first_stage, shortlist).join(scored, on=[*MOMENT, "candidate"], how="left")
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
        first.join(by_row, on="row", how="left", maintain_order="left")
        .with_columns(better=better, ties=ties, top_items=pl.concat_list("order", rest), model=pl.lit(model))
        .select(item_ranks.columns)
    )


def _shortlists(item_ranks: pl.DataFrame, first_stage: str, shortlist: int) -> pl.DataFrame:
    """Return one line per like and item of its shortlist: row, item_index (the like's), `MOMENT`, candidate, place."""
    lists = item_ranks.filter(model=first_stage).select(
        "row", "item_index", *MOMENT, candidate=pl.col("top_items").list.head(shortlist)
    )
    return lists.explode("candidate").with_columns(place=pl.int_range(pl.len()).over("row"))
