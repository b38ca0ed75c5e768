"""Recommendations from shortlists, by the scores of a variant or of the lens, and their tables."""

from typing import Any

import polars as pl
from rich.console import Group
from rich.table import Table

from reclora_kedro.recommend.candidates import best_of_each_user

USERS_ON_TERMINAL = 3
OTHER_ORDER = (
    "The rank is by where the candidates come from (recommendation.order: candidates). The score is the lens's "
    "probability of a like, which does not decide."
)


def recommend(shortlist: pl.DataFrame, scores: pl.DataFrame | None, top_n: int) -> pl.DataFrame:
    """The best `top_n` of each user's shortlist.

    Args:
        scores: row, score and shown_history of the shortlist's questions; None: the shortlist's order decides, with
            the lens's scores, and no prompt showed anything.

    Returns:
        Frame with user_id, rank (from 1), item_id, title, score (probability of a like, null in a fallback; it need
        not fall with the rank where the shortlist's order decides), shown_history (titles that the prompt showed,
        oldest first) and fallback, users in the order of the shortlist.

    Examples:
        >>> shortlist = pl.DataFrame(
        ...     {"user_id": [7, 7], "item_id": [1, 2], "title": ["Heat", "Net"], "lens_score": [0.9, 0.4],
        ...      "fallback": [False, False]}
        ... )
        >>> recommend(shortlist, None, top_n=1).select("user_id", "rank", "title", "score").rows()
        [(7, 1, 'Heat', 0.9)]
    """
    pairs, by = shortlist.with_row_index("row"), "score" if scores is not None else None
    if scores is None:
        scores = pairs.select("row", score="lens_score", shown_history=pl.lit([], dtype=pl.List(pl.String)))
    pairs = pairs.join(scores.select("row", "score", "shown_history"), on="row", how="left", maintain_order="left")
    ranked = best_of_each_user(pairs.with_columns(pl.col("shown_history").fill_null([])), by, top_n)
    rank = pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("user_id").alias("rank")
    return ranked.select("user_id", rank, "item_id", "title", "score", "shown_history", "fallback")


def recommendation_tables(recommendations: pl.DataFrame, report: dict[str, Any]) -> Group:
    """Tabulate the recommendations of the first users, and the counts of the report."""
    tables: list[Table] = []
    for (user_id,), part in recommendations.group_by("user_id", maintain_order=True):
        if len(tables) == USERS_ON_TERMINAL:
            break
        fallback = ", the most popular items (no history)" if part["fallback"][0] else ""
        table = Table(title=f"User {user_id}{fallback}", title_justify="left")
        table.add_column("rank", justify="right")
        table.add_column("title", overflow="fold")
        table.add_column("score", justify="right", no_wrap=True)
        for rank, title, score in part.select("rank", "title", "score").iter_rows():
            table.add_row(str(rank), title, "-" if score is None else f"{score:.3f}")
        tables.append(table)
    counts = ", ".join(f"{name.replace('_', ' ')}: {value:,}" for name, value in report.items())
    rises = recommendations.select((pl.col("score").diff().over("user_id") > 0).any()).item()
    return Group(*tables, *([OTHER_ORDER] if rises else []), counts)
