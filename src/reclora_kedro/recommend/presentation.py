"""Recommendations for people: a table for the terminal."""

from typing import Any

import polars as pl
from rich.console import Group
from rich.table import Table

USERS_ON_TERMINAL = 3


def recommendation_tables(recommendations: pl.DataFrame, report: dict[str, Any]) -> Group:
    """What the first users are recommended, and the counts of the report, for a terminal of 80 columns or more."""
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
    return Group(*tables, counts)
