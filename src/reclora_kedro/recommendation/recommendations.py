"""Recommendations from shortlists, in their order or by the scores of a variant, and their tables."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from rich.table import Table

from reclora_kedro.recommendation.diversity import diversify


def best_of_shortlists(
    shortlist: pl.DataFrame,
    scores: pl.DataFrame | None,
    top_n: int,
    diversity: float = 0,
    vectors: np.ndarray | None = None,
) -> pl.DataFrame:
    """The best `top_n` of each user's shortlist.

    Args:
        scores: row, score (a probability of a like) and shown_history of the shortlist's questions, which order it;
            None: the first items stay, with their own scores, and no prompt showed anything.
        diversity: strength of a re-ranking of what scores order, see `diversify`.
        vectors: vectors of the items, shape (items, d), for that.

    Returns:
        Frame with user_id, rank (from 1), item_id, title, score (what orders the list; null where nothing does, as in a
        fallback or where diversity has changed the order), because (titles of the user's events nearest to the item),
        shown_history (titles that the prompt showed, oldest first) and fallback, users in the order of the shortlist.

    Examples:
        >>> shortlist = pl.DataFrame(
        ...     {"user_id": [7, 7], "item_id": [1, 2], "title": ["Heat", "Net"], "score": [0.9, 0.4],
        ...      "because": [["Casino"], []], "fallback": [False, False]}
        ... )
        >>> best_of_shortlists(shortlist, None, top_n=1).select("user_id", "rank", "title", "score").rows()
        [(7, 1, 'Heat', 0.9)]
    """
    nothing = pl.lit([], dtype=pl.List(pl.String))
    ranked = shortlist.with_row_index("row")
    if scores is None:
        ranked = ranked.with_columns(shown_history=nothing)
    else:
        scored = scores.select("row", "score", "shown_history")
        ranked = ranked.drop("score").join(scored, on="row", how="left", maintain_order="left")
        ranked = ranked.with_columns(pl.col("shown_history").fill_null([]))
        user = pl.col("user_id").rle_id()
        ranked = ranked.with_columns(user=user).sort(
            "user", "score", descending=[False, True], nulls_last=True, maintain_order=True
        )
        if vectors is not None:
            ranked = diversify(ranked, vectors, diversity, top_n).with_columns(score=pl.lit(None, dtype=pl.Float64))
    rank = pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("user_id").alias("rank")
    columns = ("user_id", rank, "item_id", "title", "score", "because", "shown_history", "fallback")
    return ranked.select(columns).filter(pl.col("rank") <= top_n)


def as_lines(recommendations: pl.DataFrame) -> pl.DataFrame:
    """Return recommendations for CSV and databases, the reasons as one text and without the histories of prompts."""
    return recommendations.with_columns(pl.col("because").list.join("; ")).drop("shown_history")


def first_lists(recommendations: pl.DataFrame) -> pl.DataFrame:
    """Return the recommendations of the first user with a history, or else of the first user."""
    user = recommendations.filter(~pl.col("fallback")).head(1)
    user = recommendations.head(1) if user.is_empty() else user
    return recommendations.join(user.select("user_id"), on="user_id", how="semi", maintain_order="left")


def titles_table(recommendations: pl.DataFrame) -> Table | str:
    """Tabulate the recommendations of one user, with reasons, see `first_lists`."""
    own = first_lists(recommendations)
    if own.is_empty():
        return "No user has any candidate."
    fallback = ", the most popular items (no history)" if own["fallback"][0] else ""
    table = Table(title=f"Recommended to user {own['user_id'][0]}{fallback}", title_justify="left")
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("title", overflow="fold", max_width=34)
    table.add_column("because of", overflow="ellipsis", no_wrap=True, max_width=36)
    for rank, title, because in own.select("rank", "title", "because").iter_rows():
        table.add_row(str(rank), title, "; ".join(because))
    return table


def delivery_lines(method: str, label: str, reason: str, report: Mapping[str, Any]) -> str:
    """Return in sentences how lists are made, for how many users, and how alike they are."""
    lines = [f"Lists are made by {method} ({label}): {reason}."]
    counts = f"{report['users']:,} users"
    if report["fallbacks"]:
        counts += f", of whom {report['fallbacks']:,} without events get the most popular items"
    if report["empty_candidate_sets"]:
        counts += f", {report['empty_candidate_sets']:,} without any candidate"
    if (alike := report["concentration"]) is None:
        return "\n".join([*lines, f"{counts}."])
    lines.append(
        f"{counts}; their lists hold {alike['coverage']:.1%} of all items, and two users share "
        f"{alike['overlap']:.0%} of a list on average."
    )
    return "\n".join([*lines, *report["warnings"]])
