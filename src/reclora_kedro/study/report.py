"""A study's results in words, on the terminal and as one HTML page."""

from collections.abc import Mapping
from operator import itemgetter

import plotly.graph_objects as go
from rich.console import Group
from rich.table import Table

from reclora_kedro.evaluation import formats
from reclora_kedro.evaluation.page import render_page
from reclora_kedro.study.grid import describe
from reclora_kedro.study.results import Records, by_model, grids_of, seeds_of, summarise


def best_settings(results: Records) -> list[str]:
    """A sentence about each grid and model: the place that validation chooses, and the AUC on test rows there."""
    sentences = []
    for grid in grids_of(results):
        for model, summaries in by_model(summarise(results, grid)).items():
            validated = [summary for summary in summaries if summary["validation_auc"] is not None]
            if len({summary["validation_auc"] for summary in validated}) > 1:  # a grid may concern others alone
                best = max(validated, key=itemgetter("validation_auc"))
                sentences.append(
                    f"{grid}: validation chooses {describe(best['place'])} for {model} ({best['validation_auc']:.3f}); "
                    f"its AUC on test rows is {best['auc']:.3f}."
                )
    return sentences


def study_tables(results: Records) -> Group:
    """AUC of every model in every cell, a table per grid."""
    tables = []
    for grid in grids_of(results):
        summaries = summarise(results, grid)
        cells: dict[tuple[str, ...], dict[str, str]] = {}
        for summary in summaries:
            auc = formats.estimate(summary["auc"], summary["auc_low"], summary["auc_high"])
            cells.setdefault(tuple(summary["place"].values()), {})[summary["model"]] = auc
        seeds, level = summaries[0]["seeds"], formats.level(results[0]["confidence"])
        over = f"mean of {seeds} seeds and {level} interval" if seeds > 1 else "one seed"
        table = Table(title=f"{grid}: AUC on test rows, {over}")
        for axis in summaries[0]["place"]:
            table.add_column(axis, overflow="fold")
        models = list(by_model(summaries))
        for model in models:
            table.add_column(model.replace("_", "_\N{ZERO WIDTH SPACE}"), overflow="fold", justify="right")
        for settings, aucs in cells.items():
            table.add_row(*settings, *(aucs.get(model, formats.DASH) for model in models))
        tables.append(table)
    return Group(*tables)


def render_study(results: Records, titles: Mapping[str, str], figures: Mapping[str, go.Figure]) -> str:
    """One HTML page that opens without a network: what validation chooses, a table per grid, and the figures.

    Args:
        results: the long table.
        titles: what each grid shows, by its name.
        figures: "axes" and "frontier".
    """
    return render_page(
        "reclora_kedro.study",
        "study.html.jinja",
        figures,
        sentences=best_settings(results),
        grids=[
            {"title": titles[grid], "summaries": summarise(results, grid), "seeds": seeds_of(results, grid)}
            for grid in grids_of(results)
        ],
        confidence=results[0]["confidence"],
    )
