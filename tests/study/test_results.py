"""The table of results, its means, figures and reports."""

import numpy as np
import pytest
from rich.console import Console

from reclora_kedro.study.figures import plot_axes, plot_frontier
from reclora_kedro.study.grid import Cell
from reclora_kedro.study.report import best_settings, render_study, study_tables
from reclora_kedro.study.results import CellRun, Cost, axes_of, summarise, tabulate, tabulate_pairs

AUC = {("4", "7"): 0.70, ("4", "1"): 0.72, ("16", "7"): 0.74, ("16", "1"): 0.80}


def cell_run(auc, gauc=0.6, revision="abc"):
    record = {
        "rows": 50,
        "positives": 30,
        "users": 9,
        "confidence": 0.95,
        "gauc": gauc,
        "log_loss": 0.6,
        "accuracy": 0.7,
    }
    of = {"lens": 0.75, "reclora": auc}
    metrics = [{"model": m, "auc": a, "auc_low": a - 0.1, "auc_high": a + 0.1} | record for m, a in of.items()]
    pair = {"model_a": "reclora", "model_b": "lens", "auc_difference": auc - 0.75, "low": -1, "high": 1}
    return CellRun(
        metrics=metrics,
        comparisons=[pair | {"p_value": 0.2, "p_adjusted": 0.2}],
        attribution=[{"model": "reclora", "input": "prompt", "fall": 0.03}],
        costs={"lens": Cost(9.0, 1.0, 200, None), "reclora": Cost(20.0, 4.0, 100, auc - 0.01)},
        digest=f"{auc}",
        revisions=(revision,),
        nodes=20,
        nodes_run=5,
        seconds=30.0,
    )


@pytest.fixture
def cells():
    return [Cell("rank", {"r": rank}, int(seed), {}) for rank, seed in AUC]


@pytest.fixture
def runs():
    return [cell_run(auc) for auc in AUC.values()]


def test_a_record_per_cell_and_model(cells, runs):
    results = tabulate([*cells, Cell("rows", {"n": "64"}, 7, {})], [*runs, cell_run(0.6)], models=None)
    assert len(results) == 10
    assert results[1] == {
        "grid": "rank", "r": "4", "n": None, "seed": 7, "model": "reclora", "rows": 50, "positives": 30, "users": 9,
        "auc": 0.70, "auc_low": 0.6, "auc_high": 0.7999999999999999, "gauc": 0.6, "log_loss": 0.6, "accuracy": 0.7,
        "auc_lost_without_prompt": 0.03, "validation_auc": 0.69, "train_seconds": 20.0, "score_seconds": 4.0,
        "scored_rows": 100, "ms_per_row": 40.0, "digest": "0.7", "revision": "abc",
    }  # fmt: skip
    assert all(record.keys() == results[0].keys() for record in results)
    assert (axes_of(results, "rank"), axes_of(results, "rows")) == (["r"], ["n"])


def test_models_are_chosen(cells, runs):
    assert {record["model"] for record in tabulate(cells, runs, ["lens"])} == {"lens"}
    assert len(tabulate_pairs(cells, runs, ["lens", "reclora"])) == 4
    assert not tabulate_pairs(cells, runs, ["lens"])
    with pytest.raises(ValueError, match=r"study\.models names 'reclara', but the cells have lens, reclora"):
        tabulate(cells, runs, ["reclara"])


def test_means_are_over_seeds_with_the_standard_error_of_the_mean(cells, runs):
    results = tabulate(cells, runs, ["reclora"])
    [(place, [four]), (_, [sixteen])] = summarise(results, "rank", ["r"])
    assert place == (("r", "4"),)
    assert four.seeds == 2
    assert four.auc == pytest.approx(0.71)
    assert sixteen.auc_error == pytest.approx(np.std([0.74, 0.80], ddof=1) / np.sqrt(2))


def test_other_axes_are_averaged_over_within_each_seed(cells, runs):
    [(_, [summary])] = summarise(tabulate(cells, runs, ["reclora"]), "rank", [])
    assert summary.seeds == 2
    assert summary.auc == pytest.approx(0.74)
    assert summary.auc_error == pytest.approx(np.std([0.72, 0.76], ddof=1) / np.sqrt(2))


def test_a_missing_gauc_has_no_mean(cells):
    [(_, [summary, *_]), *_] = summarise(tabulate(cells, [cell_run(0.7, gauc=None)] * 4, None), "rank", ["r"])
    assert summary.gauc is None


def test_figures_have_a_line_per_model_and_a_point_per_cell(cells, runs):
    results = tabulate(cells, runs, None)
    lens, reclora = plot_axes(results).data
    assert list(reclora.x) == ["4", "16"]
    assert reclora.y == pytest.approx([0.71, 0.77])
    assert reclora.error_y.array[0] == pytest.approx(0.01)
    assert lens.name == "lens"
    frontier = plot_frontier(results)
    assert {len(trace.x) for trace in frontier.data} == {2}
    assert "0.770 of reclora" in frontier.layout.title.text


def test_the_report_chooses_by_validation(cells, runs):
    results = tabulate(cells, runs, None)
    assert best_settings(results) == [
        "rank: validation chooses r 16 for reclora (0.760); its AUC on test rows is 0.770."
    ]
    figures = {"axes": plot_axes(results), "frontier": plot_frontier(results)}
    page = render_study(results, {"rank": "What rank <is> needed?"}, figures)
    assert "What rank &lt;is&gt; needed?" in page
    assert "0.770±0.030" in page
    assert 'src="http' not in page


def test_the_terminal_has_a_row_per_cell_in_80_columns(cells, runs):
    console = Console(width=80, record=True)
    console.print(study_tables(tabulate(cells, runs, None)))
    shown = console.export_text()
    assert "0.710±0.010" in shown
    assert "0.770±0.030" in shown
