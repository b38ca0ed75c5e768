"""How a benchmark times work, and shows and keeps its results."""

import json
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import plotly.graph_objects as go
import polars as pl
import torch

from reclora_kedro.evaluation.records import Records

FOLDER = Path(__file__).parents[1] / "data" / "08_reporting" / "benchmarks"
T = TypeVar("T")


def timed(work: Callable[..., T], *arguments: Any, clock: Callable[[], float] = time.perf_counter) -> tuple[T, float]:
    """The result of some work, and its seconds, to the end of what a GPU has to do for it."""
    start = clock()
    result = work(*arguments)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, clock() - start


def publish(name: str, tables: Mapping[str, Records], figure: go.Figure, digits: int = 2) -> None:
    """Print the tables, and keep them as JSON and Markdown with a plot, under data/08_reporting/benchmarks/.

    Args:
        name: of the benchmark and its files.
        tables: by title, one record per row.
        figure: the plot.
        digits: of numbers in the printed tables, after the point.
    """
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    text = f"# {name}\n\n{machine}\n\n" + "\n\n".join(
        f"## {title}\n\n{markdown(rows, digits)}" for title, rows in tables.items()
    )
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps({"machine": machine, **tables}, indent=2))
    (FOLDER / f"{name}.md").write_text(text + "\n")
    figure.write_html(FOLDER / f"{name}.html", include_plotlyjs=True)
    print(text, f"\nKept as {name}.json, .md and .html in {FOLDER}")


def markdown(rows: Records, digits: int = 2) -> str:
    """Records as a Markdown table.

    Examples:
        >>> print(markdown([{"step": "split", "seconds": 1.25}]))
        | step  | seconds |
        | :---- | ------: |
        | split | 1.25    |
    """
    with pl.Config(
        tbl_formatting="MARKDOWN", tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True, tbl_rows=-1,
        tbl_cols=-1, fmt_str_lengths=100, tbl_width_chars=200, thousands_separator=",", float_precision=digits,
    ):  # fmt: skip
        return str(pl.DataFrame(rows, infer_schema_length=None))
