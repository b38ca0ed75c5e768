"""Figures of a study."""

import pytest

from reclora_kedro.evaluation.styles import model_styles
from reclora_kedro.study.figures import plot_axes, plot_frontier
from reclora_kedro.study.grid import Cell
from reclora_kedro.study.results import grids_of, tabulate
from study_cells import CELLS, RUNS, cell_run

RESULTS = tabulate(CELLS, RUNS, None)
TWO_GRIDS = tabulate([*CELLS, Cell("rows", {"n": "64", "text": "<b>"}, 7, {})], [*RUNS, cell_run(0.6)], None)


def test_a_line_per_model_with_a_point_per_setting_and_its_interval():
    lens, reclora = plot_axes(RESULTS).data
    assert (lens.name, reclora.name) == ("lens", "reclora")
    assert list(reclora.x) == ["4", "16"]
    assert reclora.y == pytest.approx([0.71, 0.77])
    [grid] = grids_of(RESULTS)
    summaries = [summary for summary in grid.summarise(["r"]) if summary["model"] == "reclora"]
    assert list(reclora.error_y.array) == [summary["auc_high"] - summary["auc"] for summary in summaries]
    assert list(reclora.error_y.arrayminus) == [summary["auc"] - summary["auc_low"] for summary in summaries]
    assert list(lens.error_y.array) == [0, 0]
    assert plot_axes(RESULTS).layout.title.text == "AUC by setting (means of 2 seeds and their 95% intervals)"


def test_one_seed_has_no_bars():
    figure = plot_axes(tabulate(CELLS[::2], RUNS[::2], None))
    assert figure.layout.title.text == "AUC by setting (one seed)"
    assert all(trace.error_y.array is None for trace in figure.data)
    several = "AUC by setting (means of 1 or 2 seeds and their 95% intervals)"
    assert plot_axes(TWO_GRIDS).layout.title.text == several


def test_a_panel_per_axis_of_each_grid_and_each_model_once_in_the_legend():
    figure = plot_axes(TWO_GRIDS)
    assert [annotation.text for annotation in figure.layout.annotations] == [
        "rank: by r",
        "rows: by n",
        "rows: by text",
    ]
    assert [trace.yaxis for trace in figure.data] == ["y", "y", "y2", "y2", "y3", "y3"]
    assert [trace.showlegend for trace in figure.data] == [True, True, False, False, False, False]


def test_what_auc_costs_is_a_point_per_cell_in_two_panels():
    figure = plot_frontier(TWO_GRIDS)
    by_name = {(trace.name, trace.xaxis): trace for trace in figure.data}
    assert by_name.keys() == {(model, axis) for model in ("lens", "reclora") for axis in ("x", "x2")}
    reclora = by_name["reclora", "x"]
    assert list(reclora.text) == ["rank: r 4", "rank: r 16", "rows: n 64, text <b>"]
    assert list(reclora.x) == [40, 40, 40]
    assert reclora.y == pytest.approx([0.71, 0.77, 0.6])
    assert list(by_name["reclora", "x2"].x) == [20, 20, 20]
    assert figure.layout.title.text == "Highest AUC: reclora, 0.770 at 40 ms per row"


def test_a_model_that_is_not_trained_by_itself_has_no_seconds_of_training():
    untrained = [record | {"train_seconds": None} if record["model"] == "lens" else record for record in RESULTS]
    figure = plot_frontier(untrained)
    assert {(trace.name, trace.xaxis): len(trace.x) for trace in figure.data} == {
        ("lens", "x"): 2, ("lens", "x2"): 0, ("reclora", "x"): 2, ("reclora", "x2"): 2,
    }  # fmt: skip


def test_models_have_the_styles_of_the_evaluation():
    styles = model_styles(["lens", "reclora"], {})
    for figure in (plot_axes(RESULTS), plot_frontier(RESULTS)):
        for trace in figure.data:
            style = styles[trace.name]
            assert (trace.marker.color, trace.marker.symbol) == (style.color, style.symbol)
