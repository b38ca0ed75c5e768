"""A study's results in words, on the terminal and as one HTML page."""

from collections.abc import Mapping

import plotly.graph_objects as go
from rich.console import Group

from reclora_kedro.evaluation import formats
from reclora_kedro.evaluation.page import render_page
from reclora_kedro.evaluation.terminal import empty_table
from reclora_kedro.study.grid import describe
from reclora_kedro.study.results import Records, Summary, axes_of, by_model, grids_of, summarise


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
        for model, summaries in by_model(summarise(results, grid, axes_of(results, grid))).items():
            validated = {
                describe(s.place): (s.validation_auc, s.auc) for s in summaries if s.validation_auc is not None
            }
            if len({validation_auc for validation_auc, _ in validated.values()}) > 1:  # a grid may concern others alone
                best = max(validated, key=lambda place: validated[place][0])
                validation_auc, auc = (formats.metric(value) for value in validated[best])
                sentences.append(
                    f"{grid}: validation chooses {best} for {model} ({validation_auc}); its AUC on test rows is {auc}."
                )
    return sentences


def study_tables(results: Records) -> Group:
    """AUC of every model in every cell, a table per grid."""
    tables = []
    for grid in grids_of(results):
        axes = axes_of(results, grid)
        places: dict[tuple[str, ...], dict[str, Summary]] = {}
        for summary in summarise(results, grid, axes):
            places.setdefault(tuple(summary.place.values()), {})[summary.model] = summary
        models = dict.fromkeys(model for of_place in places.values() for model in of_place)
        seeds = summary.seeds
        level = formats.level(results[0]["confidence"])
        over = f"mean of {seeds} seeds and {level} interval" if seeds > 1 else "one seed"
        headings = [model.replace("_", "_\N{ZERO WIDTH SPACE}") for model in models]
        table = empty_table(f"{grid}: AUC on test rows, {over}", [*axes, *headings], [])
        for column in table.columns[len(axes) :]:
            column.justify = "right"
        for settings, of_place in places.items():
            aucs = (
                formats.estimate(one.auc, one.auc_low, one.auc_high) if one else formats.DASH
                for one in map(of_place.get, models)
            )
            table.add_row(*settings, *aucs)
        tables.append(table)
    return Group(*tables)


def render_study(results: Records, titles: Mapping[str, str], figures: Mapping[str, go.Figure]) -> str:
    """One HTML page that opens without a network: what validation chooses, a table per grid, and the figures.

    Args:
        results: the long table.
        titles: what each grid shows, by its name.
        figures: "axes" and "frontier".
    """
    axes = {grid: axes_of(results, grid) for grid in grids_of(results)}
    return render_page(
        "reclora_kedro.study",
        "study.html.jinja",
        figures,
        sentences=best_settings(results),
        grids=[
            {"title": titles[grid], "axes": axes[grid], "summaries": summarise(results, grid, axes[grid])}
            for grid in axes
        ],
        seeds=sorted({record["seed"] for record in results}),
        confidence=results[0]["confidence"],
    )
