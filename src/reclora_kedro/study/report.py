"""A study's results in words, on the terminal and as one HTML page."""

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
from rich.console import Group
from rich.table import Table

from reclora_kedro.evaluation.page import format_auc, render_page
from reclora_kedro.study.figures import describe
from reclora_kedro.study.results import Records, Summary, axes_of, grids_of, summarise


def best_settings(results: Records) -> list[str]:
    """A sentence about each grid and model: the place that validation chooses, and the AUC on test rows there.

    Examples:
        >>> first = {
        ...     "grid": "few_shot", "rows shown": "128", "seed": 0, "model": "reclora", "auc": 0.71, "gauc": 0.6,
        ...     "log_loss": 0.6, "validation_auc": 0.70, "train_seconds": 9.0, "ms_per_row": 40.0,
        ... }
        >>> second = first | {"rows shown": "512", "auc": 0.74, "validation_auc": 0.75}
        >>> best_settings([first, second])
        ['few_shot: validation chooses rows shown 512 for reclora (0.750); its AUC on test rows is 0.740.']
    """
    sentences = []
    for grid in grids_of(results):
        validated: dict[str, dict[str, Summary]] = {}
        for place, models in summarise(results, grid, axes_of(results, grid)):
            setting = describe(grid, dict(place)).removeprefix(f"{grid}, ")
            for summary in models:
                if summary.validation_auc is not None:
                    validated.setdefault(summary.model, {})[setting] = summary
        for model, by_setting in validated.items():
            aucs = {setting: summary.validation_auc or 0.0 for setting, summary in by_setting.items()}
            best = max(aucs, key=aucs.__getitem__)
            if len(set(aucs.values())) > 1:  # the settings of a grid may concern other models alone
                sentences.append(
                    f"{grid}: validation chooses {best} for {model} ({aucs[best]:.3f}); its AUC on test rows is "
                    f"{by_setting[best].auc:.3f}."
                )
    return sentences


def format_mean(summary: Summary) -> str:
    """A mean AUC with its standard error over the seeds."""
    return f"{summary.auc:.3f}" + (f"±{summary.auc_error:.3f}" if summary.seeds > 1 else "")


def study_tables(results: Records) -> Group:
    """AUC of every model in every cell, a table per grid, for a terminal of 80 columns or more."""
    tables = []
    for grid in grids_of(results):
        axes = axes_of(results, grid)
        places = list(summarise(results, grid, axes))
        models = dict.fromkeys(summary.model for _, of_place in places for summary in of_place)
        seeds = places[0][1][0].seeds
        table = Table(title=f"{grid}: AUC on test rows, " + (f"mean of {seeds} seeds" if seeds > 1 else "one seed"))
        for axis in axes:
            table.add_column(axis, overflow="fold")
        for model in models:
            table.add_column(model.replace("_", "_\N{ZERO WIDTH SPACE}"), justify="right", overflow="fold")
        for place, of_place in places:
            found = {summary.model: format_mean(summary) for summary in of_place}
            table.add_row(*(setting for _, setting in place), *(found.get(model, format_auc(None)) for model in models))
        tables.append(table)
    return Group(*tables)


def render_study(results: Records, titles: Mapping[str, str], figures: Mapping[str, go.Figure]) -> str:
    """One HTML page that opens without a network: what validation chooses, a table per grid, and the figures.

    Args:
        results: the long table.
        titles: what each grid shows, by its name.
        figures: "axes" and "frontier".
    """
    grids: list[dict[str, Any]] = [
        {
            "name": grid,
            "title": titles[grid],
            "axes": axes_of(results, grid),
            "places": [
                {
                    "settings": [setting for _, setting in place],
                    "models": [{"auc": format_mean(summary), "summary": summary} for summary in models],
                }
                for place, models in summarise(results, grid, axes_of(results, grid))
            ],
        }
        for grid in grids_of(results)
    ]
    return render_page(
        "reclora_kedro.study",
        "study.html.jinja",
        figures,
        sentences=best_settings(results),
        grids=grids,
        seeds=sorted({record["seed"] for record in results}),
    )
