"""A study in words, on the terminal and as a page."""

import re

from reclora_kedro.evaluation.formats import DASH
from reclora_kedro.study.figures import plot_axes, plot_frontier
from reclora_kedro.study.grid import Cell
from reclora_kedro.study.results import best_settings, render_study, study_tables, tabulate
from study_cells import CELLS, RUNS, cell_run
from terminal import printed

RESULTS = tabulate(CELLS, RUNS, None)
ONE_SEED = tabulate(CELLS[::2], RUNS[::2], None)


def render(results, **titles):
    return render_study(results, titles, {"axes": plot_axes(results), "frontier": plot_frontier(results)})


def test_settings_are_chosen_by_validation():
    expected = "rank: validation chooses r 16 for reclora (0.760); its AUC on test rows is 0.770."
    assert best_settings(RESULTS) == [expected]
    assert expected in render(RESULTS, rank="Rank")


def test_a_grid_that_ranks_catalogues_compares_hit_rates():
    renamed = {"auc": "hit_rate", "validation_auc": "validation_hit_rate"}
    results = [
        record | {new: record[old] for old, new in renamed.items()} | dict.fromkeys(renamed) | {"k": 10}
        for record in RESULTS
    ]
    assert best_settings(results) == [
        "rank: validation chooses r 16 for reclora (0.760); its HR@10 on test rows is 0.770."
    ]
    assert "rank: HR@10 on test rows, mean of 2 seeds" in printed(study_tables(results))
    page = render(results, rank="Rank")
    assert re.search(r"<td>0\.770</td>\s*<td>0\.389 to 1\.000</td>", page)
    assert "validation HR@10</th>" in page
    assert plot_axes(results).layout.yaxis.title.text == plot_frontier(results).layout.yaxis.title.text == "HR@10"


def test_a_grid_that_leaves_a_model_as_it_is_chooses_nothing_for_it():
    assert best_settings([record | {"validation_auc": 0.7} for record in RESULTS]) == []


def test_the_page_has_a_row_per_cell_and_model_with_intervals_over_the_seeds():
    page = render(RESULTS, rank="Rank")
    rows = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in page.split("<tr>")]
    assert [row for row in rows if row] == [
        ["4", "lens", "0.750", "0.750 to 0.750", DASH, "25", "0.600", "0.600", "0.700", DASH, "9.0", "5"],
        ["4", "reclora", "0.710", "0.583 to 0.837", DASH, "25", "0.600", "0.600", "0.700", "0.700", "20.0", "40"],
        ["16", "lens", "0.750", "0.750 to 0.750", DASH, "25", "0.600", "0.600", "0.700", DASH, "9.0", "5"],
        ["16", "reclora", "0.770", "0.389 to 1.000", DASH, "25", "0.600", "0.600", "0.700", "0.760", "20.0", "40"],
    ]
    assert "95% interval</th>" in page
    assert "Means over the seeds 1, 7." in page


def test_one_seed_has_no_interval():
    page = render(ONE_SEED, rank="Rank")
    assert "interval</th>" not in page
    assert "One seed, 7" in page
    beside = tabulate([*CELLS, Cell("rows", {"n": "64"}, 5, {})], [*RUNS, cell_run(0.6)], None)
    seeds = re.findall(r"Means over the seeds 1, 7\.|One seed, \d+", render(beside, rank="Rank", rows="Rows"))
    assert seeds == ["Means over the seeds 1, 7.", "One seed, 5"]
    assert "rank: AUC on test rows, one seed" in " ".join(printed(study_tables(ONE_SEED)).split())


def test_what_users_write_is_escaped():
    hostile = "<script>alert('hi')</script>"
    cells = [Cell(hostile, {hostile: setting}, 7, {}) for setting in (hostile, "plain")]
    results = tabulate(cells, [cell_run(0.7), cell_run(0.8)], None)
    results = [record | {"model": record["model"].replace("reclora", hostile)} for record in results]
    page = render(results, **{hostile: hostile})
    assert hostile not in page
    assert "<h2>&lt;script&gt;alert(&#39;hi&#39;)&lt;/script&gt;</h2>" in page


def test_the_page_stands_alone_with_both_figures():
    page = render(RESULTS, rank="Rank")
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)
    for name, figure in (("axes", plot_axes(RESULTS)), ("frontier", plot_frontier(RESULTS))):
        assert f"<h3>{figure.layout.title.text}</h3>" in page
        assert page.count(f'id="figure-{name}"') == 1


def test_the_terminal_has_a_row_per_cell_and_model_in_80_columns():
    shown = printed(study_tables(RESULTS))
    assert "mean of 2 seeds" in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 80
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if line.startswith("│")]
    assert rows == [
        ["4", "lens", "0.750", "0.750 to 0.750", DASH],
        ["4", "reclora", "0.710", "0.583 to 0.837", "0.700"],
        ["16", "lens", "0.750", "0.750 to 0.750", DASH],
        ["16", "reclora", "0.770", "0.389 to 1.000", "0.760"],
    ]


def test_a_model_that_a_cell_lacks_has_no_row():
    shown = printed(study_tables([record for record in RESULTS if (record["model"], record["r"]) != ("lens", "16")]))
    assert re.findall(r"│ (\w+) +│ (\w+)", shown) == [("4", "lens"), ("4", "reclora"), ("16", "reclora")]
