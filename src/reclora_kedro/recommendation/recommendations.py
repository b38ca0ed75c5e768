"""Recommendations from shortlists, by the scores of a variant or of the lens, and their tables."""

from typing import Any

import numpy as np
import polars as pl
from rich.console import Group
from rich.table import Table

from reclora_kedro.baselines.neighbours import ItemNeighbours
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.recommendation.candidates import best_of_each_user
from reclora_kedro.recommendation.diversity import diversify

REASONS = 3  # events of the user that explain a recommendation, at most
OTHER_ORDER = (
    "The rank is by where the candidates come from (recommendation.order: candidates). The score is the lens's "
    "probability of a like, which does not decide."
)


def with_reasons(shortlist: pl.DataFrame, log: InteractionLog, neighbours: ItemNeighbours) -> pl.DataFrame:
    """Return the shortlist with `because`: titles of the user's events nearest to each item, the nearest first.

    There are none in a fallback, nor where no event is near.
    """
    titles, ends, because = log.items["title"].to_numpy(), log.sequences.ends, list[list[str]]()
    for _, pairs in shortlist.group_by("user_id", maintain_order=True):
        user, items = pairs["user_index"][0], pairs["item_index"].to_numpy()
        if pairs["fallback"][0]:
            because += [[] for _ in items]
        else:
            because += [titles[events].tolist() for events, _ in neighbours.reasons(user, ends[user], items, REASONS)]
    return shortlist.with_columns(because=pl.Series(because, dtype=pl.List(pl.String)))


def recommend(
    shortlist: pl.DataFrame,
    scores: pl.DataFrame | None,
    top_n: int,
    diversity: float = 0,
    vectors: np.ndarray | None = None,
) -> pl.DataFrame:
    """The best `top_n` of each user's shortlist.

    Args:
        scores: row, score and shown_history of the shortlist's questions; None: the shortlist's order decides, with
            the lens's scores, and no prompt showed anything.
        diversity: strength of a re-ranking, see `diversify`.
        vectors: vectors of the items at unit length, shape (items, d), for that.

    Returns:
        Frame with user_id, rank (from 1), item_id, title, score (probability of a like, null in a fallback; it need
        not fall with the rank where the shortlist's order decides), because (see `with_reasons`), shown_history
        (titles that the prompt showed, oldest first) and fallback, users in the order of the shortlist.

    Examples:
        >>> shortlist = pl.DataFrame(
        ...     {"user_id": [7, 7], "item_id": [1, 2], "title": ["Heat", "Net"], "lens_score": [0.9, 0.4],
        ...      "because": [["Casino"], []], "fallback": [False, False]}
        ... )
        >>> recommend(shortlist, None, top_n=1).select("user_id", "rank", "title", "score").rows()
        [(7, 1, 'Heat', 0.9)]
    """
    pairs, by = shortlist.with_row_index("row"), "score" if scores is not None else None
    if scores is None:
        scores = pairs.select("row", score="lens_score", shown_history=pl.lit([], dtype=pl.List(pl.String)))
    pairs = pairs.join(scores.select("row", "score", "shown_history"), on="row", how="left", maintain_order="left")
    pairs = pairs.with_columns(pl.col("shown_history").fill_null([]))
    if vectors is None:
        ranked = best_of_each_user(pairs, by, top_n)
    else:
        ranked = diversify(best_of_each_user(pairs, by, None), vectors, diversity, top_n)
    rank = pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("user_id").alias("rank")
    return ranked.select("user_id", rank, "item_id", "title", "score", "because", "shown_history", "fallback")


def as_lines(recommendations: pl.DataFrame) -> pl.DataFrame:
    """Return recommendations for CSV, the reasons as one text and without the histories of prompts.

    A text that a spreadsheet would compute as a formula follows an apostrophe.
    """
    lines = recommendations.with_columns(pl.col("because").list.join("; ")).drop("shown_history")
    return lines.with_columns(pl.col(pl.String).str.replace(r"^(\s*[=+\-@\t\r])", "'${1}"))


def titles_table(recommendations: pl.DataFrame) -> Table | str:
    """Tabulate the recommendations of the first user with a history, with reasons."""
    user = recommendations.filter(~pl.col("fallback")).head(1)
    user = recommendations.head(1) if user.is_empty() else user
    if user.is_empty():
        return "No user has any candidate."
    own = recommendations.join(user.select("user_id"), on="user_id", how="semi", maintain_order="left")
    fallback = ", the most popular items (no history)" if own["fallback"][0] else ""
    table = Table(title=f"Recommended to user {own['user_id'][0]}{fallback}", title_justify="left")
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("title", overflow="fold", max_width=30)
    table.add_column("because of", overflow="ellipsis", no_wrap=True, max_width=30)
    table.add_column("score", justify="right", no_wrap=True)
    for rank, title, because, score in own.select("rank", "title", "because", "score").iter_rows():
        table.add_row(str(rank), title, "; ".join(because), "-" if score is None else f"{score:.3f}")
    return table


def recommendation_tables(recommendations: pl.DataFrame, report: dict[str, Any]) -> Group:
    """Tabulate the recommendations of one user, and the counts of the report."""
    counts = ", ".join(f"{name.replace('_', ' ')}: {value:,}" for name, value in report.items())
    rises = recommendations.select((pl.col("score").diff().over("user_id") > 0).any()).item()
    return Group(titles_table(recommendations), *([OTHER_ORDER] if rises else []), counts)
