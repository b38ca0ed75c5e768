"""The table of results, and means of it."""

import numpy as np
import pytest
from scipy.stats import t as student_t

from reclora_kedro.study.grid import Cell
from reclora_kedro.study.results import grids_of, grouped, tabulate, tabulate_pairs
from study_cells import CELLS, RUNS, cell_run, lens_run


def summarise(results, axes=None):
    [grid] = grids_of(results)
    return grid.summarise(axes)


def test_a_record_per_cell_and_model():
    results = tabulate([*CELLS, Cell("rows", {"n": "64"}, 7, {})], [*RUNS, cell_run(0.6)], models=None)
    assert len(results) == 10
    assert results[1] == {
        "grid": "rank", "r": "4", "n": None, "seed": 7, "model": "reclora", "rows": 50, "positives": 30, "users": 29,
        "auc": 0.70, "auc_low": 0.6, "auc_high": 0.7999999999999999, "auc_cold": None, "confidence": 0.95, "gauc": 0.6,
        "gauc_low": 0.5, "gauc_high": 0.7, "gauc_users": 25, "log_loss": 0.6, "accuracy": 0.7,
        **dict.fromkeys(("log_loss_low", "log_loss_high", "accuracy_low", "accuracy_high", "k", "coverage")),
        **{f"{name}{end}": None for name in ("hit_rate", "ndcg", "mrr", "novelty") for end in ("", "_low", "_high")},
        "auc_lost_without_prompt": 0.03,
        "weights": None, "validation_auc": 0.69, "validation_hit_rate": None, "train_seconds": 20.0,
        "score_seconds": 4.0, "scored_rows": 100, "ms_per_row": 40.0, "digest": "0.7", "revision": "abc",
    }  # fmt: skip
    assert all(record.keys() == results[0].keys() for record in results)
    assert [(grid.name, grid.axes) for grid in grids_of(results)] == [("rank", ["r"]), ("rows", ["n"])]


def test_models_are_chosen():
    assert {record["model"] for record in tabulate(CELLS, RUNS, ["lens"])} == {"lens"}
    assert len(tabulate_pairs(CELLS, RUNS, ["lens", "reclora"])) == 4
    assert not tabulate_pairs(CELLS, RUNS, ["lens"])
    with pytest.raises(ValueError, match=r"study\.models names 'reclara', but the cells have lens, reclora"):
        tabulate(CELLS, RUNS, ["reclara"])


def test_lenses_measured_alone_have_intervals_over_their_seeds():
    cells = [Cell("lenses", {"lens": "din"}, seed, {}) for seed in (1, 2)]
    results = tabulate(cells, [lens_run(0.7), lens_run(0.8)], None)
    names = ("auc_low", "confidence", "weights", "validation_auc", "train_seconds", "scored_rows", "ms_per_row")
    assert [results[0][name] for name in names] == [None, 0.95, 99, pytest.approx(0.69), 9.0, 50, 10.0]
    [summary] = summarise(results)
    half_width = student_t.ppf(0.975, 1) * np.std([0.7, 0.8], ddof=1) / np.sqrt(2)
    assert summary["auc_low"] == pytest.approx(0.75 - half_width)


def test_means_are_over_seeds_with_students_interval():
    four, sixteen = summarise(tabulate(CELLS, RUNS, ["reclora"]), ["r"])
    assert (four["place"], four["model"], four["seeds"]) == ({"r": "4"}, "reclora", 2)
    assert four["auc"] == pytest.approx(0.71)
    half_width = student_t.ppf(0.975, 1) * np.std([0.74, 0.80], ddof=1) / np.sqrt(2)
    assert (sixteen["auc_low"], sixteen["auc_high"]) == pytest.approx((0.77 - half_width, 1))


def test_other_axes_are_averaged_over_within_each_seed():
    [summary] = summarise(tabulate(CELLS, RUNS, ["reclora"]), [])
    assert (summary["place"], summary["seeds"]) == ({}, 2)
    assert summary["auc"] == pytest.approx(0.74)
    half_width = student_t.ppf(0.975, 1) * np.std([0.72, 0.76], ddof=1) / np.sqrt(2)
    assert summary["auc_high"] == pytest.approx(0.74 + half_width)


def test_one_seed_has_no_interval():
    summary, *_ = summarise(tabulate(CELLS[:1], RUNS[:1], None), ["r"])
    assert (summary["seeds"], summary["auc_low"], summary["auc_high"]) == (1, None, None)


def test_a_missing_gauc_has_no_mean():
    summary, *_ = summarise(tabulate(CELLS, [cell_run(0.7, gauc=None)] * 4, None), ["r"])
    assert summary["gauc"] is None


def test_the_summaries_of_a_model_stand_in_the_order_of_the_places():
    of_models = grouped(summarise(tabulate(CELLS, RUNS, None), ["r"]), "model")
    places = {model: [summary["place"]["r"] for summary in summaries] for model, summaries in of_models.items()}
    assert places == {"lens": ["4", "16"], "reclora": ["4", "16"]}
