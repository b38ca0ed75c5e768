import re
from dataclasses import replace

import plotly.graph_objects as go
import pytest

from reclora_kedro.evaluation.formats import DASH
from reclora_kedro.evaluation.report import (
    Recommended,
    Results,
    models_table,
    render_report,
    results_tables,
)
from reclora_kedro.recommendation.second_stage import SecondStage
from terminal import printed

LENS = {
    "model": "lens", "rows": 2000, "positives": 1100, "users": 300, "auc": 0.76, "auc_low": 0.74, "auc_high": 0.78,
    "confidence": 0.95, "gauc": 0.701, "gauc_low": 0.65, "gauc_high": 0.74, "gauc_users": 1212,
    "log_loss": 0.58, "log_loss_low": 0.55, "log_loss_high": 0.61,
    "accuracy": 0.7, "accuracy_low": 0.66, "accuracy_high": 0.74,
}  # fmt: skip
METRICS = [
    LENS,
    LENS | {"model": "shared_lora", "auc": 0.72, "log_loss": 0.61},
    LENS | {"model": "reclora", "auc": 0.77, "log_loss": 0.57},
]
COMPARISONS = [
    {
        "model_a": "shared_lora", "model_b": "lens",
        "auc_difference": -0.04, "low": -0.075, "high": -0.005, "p_value": 0.03, "p_adjusted": 0.06,
    },
    {
        "model_a": "reclora", "model_b": "lens",
        "auc_difference": 0.01, "low": -0.0002, "high": 0.0202, "p_value": 0.0551, "p_adjusted": 0.06,
    },
    {
        "model_a": "reclora", "model_b": "shared_lora",
        "auc_difference": 0.05, "low": 0.03, "high": 0.07, "p_value": 1e-6, "p_adjusted": 3e-6,
    },
]  # fmt: skip
TESTS = "cluster bootstrap over 300 users, Holm over 3 pairs"
AUCS = {("item", "cold"): [None] * 3, ("item", "warm"): [0.7612, 0.7213, 0.7714], ("user", "new"): [0.5, 0.6, 0.55]}
SEGMENTS = [
    {"by": by, "segment": segment, "rows": 1717, "positives": 901, "users": 250, "model": record["model"], "auc": auc}
    for (by, segment), aucs in AUCS.items()
    for record, auc in zip(METRICS, aucs, strict=True)
]
INGESTION = [{"check": "ratings outside the scale", "rows": 1234, "rule": "dropped"}]
ATTRIBUTION = [
    {
        "model": "shared_lora", "input": "prompt", "rows": 1000,
        "auc": 0.72, "permuted_auc": 0.51, "fall": 0.21, "low": 0.17, "high": 0.25, "confidence": 0.95,
        "within": 0.1, "within_low": 0.05, "within_high": 0.15,
    },
    {
        "model": "reclora", "input": "prompt", "rows": 1000,
        "auc": 0.77, "permuted_auc": 0.769, "fall": 0.001, "low": -0.003, "high": 0.005, "confidence": 0.95,
        "within": 0.002, "within_low": -0.004, "within_high": 0.008,
    },
    {
        "model": "reclora", "input": "gate inputs", "rows": 1000,
        "auc": 0.77, "permuted_auc": 0.52, "fall": 0.25, "low": 0.2, "high": 0.3, "confidence": 0.95,
        "within": None, "within_low": None, "within_high": None,
    },
]  # fmt: skip
UNREAD = (
    "reclora: with prompts exchanged, AUC falls by 0.001 (-0.003 to 0.005), within users by 0.002 (-0.004 to 0.008): "
    "no evidence that it uses prompts."
)
TITLES = [record | {"input": "title"} for record in ATTRIBUTION[:2]]
TELLS = "Of the test rows, the item's earlier events alone tell drawn negatives from likes: AUC 0.601."
NEGATIVES = [
    {"number": "the item's earlier events", "split": "train", "rows": 4321, "auc": 0.5123, "warning": None},
    {"number": "the item's earlier events", "split": "test", "rows": 432, "auc": 0.6007, "warning": TELLS},
]
TRAINING = [
    dict.fromkeys(("epsilon", "delta", "decided", "confirmed"))
    | {"model": "shared_lora", "rows": 512, "validation_auc": 0.71, "weights": 276480, "seconds": 81.4},
    {
        "model": "private", "rows": 96, "validation_auc": 0.6, "weights": 36864, "seconds": 9.0,
        "epsilon": 1.875, "delta": 1e-5, "decided": 41.0, "confirmed": 0.625,
    },
]  # fmt: skip
RESULTS = Results(
    metrics=METRICS,
    comparisons=COMPARISONS,
    attribution=ATTRIBUTION,
    segments=SEGMENTS,
    ingestion_report=INGESTION,
    history_report=[{"check": "train samples", "rows": 2345, "rule": "rows kept"}],
    negatives_report=NEGATIVES,
    training_report=TRAINING,
)
BEST = ' class="best"'
NOTES = {"lens": "a <stand-in>", "absent": "no model of these metrics"}
FIGURES = {name: go.Figure(layout_title_text=f"Title of {name}") for name in ("auc", "roc", "calibration", "training")}


def test_a_level_between_whole_percents_is_not_rounded():
    metrics = [record | {"confidence": 0.995} for record in METRICS]
    page = render_report(replace(RESULTS, metrics=metrics), FIGURES, NOTES)
    assert "(99.5% interval" in page.partition("<h2>Model for single pairs")[2].partition("</section>")[0]
    assert "error rate of 0.5%" in page


@pytest.mark.parametrize("width", [80, 100])
def test_the_tables_fit_a_plain_stream(width: int):
    metrics = [record | {"split_rows": 9_449, "split_auc": 0.774} for record in METRICS]
    metrics[0] = metrics[0] | {"model": "statistics_probe"}
    text = printed(models_table(metrics), width)
    assert max(map(len, text.splitlines())) <= width
    assert "statistics_probe" in text
    known = [record | {"constant_log_loss": 0.688, "constant_accuracy": 0.55} for record in METRICS]
    text = printed(results_tables(known, COMPARISONS, ATTRIBUTION, {"lens": "the click model"}), width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    assert "…" not in text
    for expected in ("2,000", "0.740 to 0.780", "the click model", "0.688"):
        assert expected in text
    rows = re.findall(r"^│ (\w+)", text, re.MULTILINE)
    assert rows[-4:] == ["reclora", "lens", "shared_lora", "constant"]  # by falling AUC
    assert UNREAD in " ".join(text.split())
    assert "Highest AUC: reclora, 0.770; not significantly lower: lens." in text


def test_a_model_that_does_not_read_its_prompts_is_named_in_red():
    tables = results_tables(METRICS, COMPARISONS, ATTRIBUTION)
    text = printed(tables, width=100, force_terminal=True, color_system="standard")
    red = re.findall(r"\x1b\[(?:1;)?31m\W*(\w+)", text)
    assert set(red) - {"1m", "0m"} >= {"reclora"}
    assert "shared_lora" not in red
    page = render_report(replace(RESULTS, negatives_report=[]), FIGURES, NOTES)
    assert f'<p class="alarm">{UNREAD}</p>' in page
    assert page.count('<tr class="alarm">') == 1


def test_no_verdict_is_drawn_from_an_llm_that_does_not_read_titles():
    text = " ".join(printed(results_tables(METRICS, COMPARISONS, TITLES, {}), 200).split())
    falls = "with titles exchanged, AUC falls by"
    assert f"shared_lora: {falls} 0.210 (0.170 to 0.250), within users by 0.100 (0.050 to 0.150): it reads" in text
    assert f"reclora: {falls} 0.001 (-0.003 to 0.005), within users by 0.002 (-0.004 to 0.008): no evidence" in text
    assert re.search(r"│ reclora +│? ?the LLM with a trained adapter; may not read titles", text)
    assert re.search(r"│ shared_lora +│? ?the LLM with a trained adapter │", text)
    others = "all others are significantly lower. No evidence that titles are read, so not compared: reclora."
    sentence = f"Highest AUC: lens, 0.760; {others}"
    assert text.endswith(sentence)
    page = " ".join(render_report(replace(RESULTS, attribution=TITLES), FIGURES, NOTES).split())
    card = page.partition("<h2>Model for single pairs")[2].partition("</section>")[0]
    assert '<p class="answer">lens</p>' in card
    assert "so not compared: reclora" in card
    assert "reclora<br><small>no evidence that it reads titles</small>" in page
    assert "shared_lora<br><small>titles" not in page
    assert f"<p>{sentence} Tested by" in page
    assert '<p class="alarm">reclora: with titles exchanged' in page
    assert "<p>shared_lora: with titles exchanged" in page


def test_a_run_that_permutes_nothing_reports_the_rest():
    assert "0.740 to 0.780" in printed(results_tables(METRICS, COMPARISONS, []))
    page = render_report(replace(RESULTS, attribution=[]), FIGURES, NOTES)
    assert "0.740 to 0.780" in page
    assert "What does each model read?" not in page


def test_the_report_says_what_each_baseline_is():
    page = render_report(RESULTS, FIGURES, NOTES)
    assert "<em>lens</em>: a &lt;stand-in&gt;." in page
    assert "absent" not in page


def test_the_report_draws_the_second_stage_where_there_is_one():
    stage = SecondStage(weights={"linear_rank": 0.5, "lens": 0.25}).figure()
    page, without = (render_report(RESULTS, shown, NOTES) for shown in (FIGURES | {"second_stage": stage}, FIGURES))
    assert "linear_rank" in page.split('id="figure-second_stage"')[1]
    assert "figure-second_stage" not in without


def test_the_report_opens_with_a_list_and_what_finds_items():
    shown = {"rank": 1, "title": "Heat <b>", "because": ["Casino"]}
    example = {"taken": ["Casino", "Ronin"], "list": [shown]}
    method = {"model": "linear", "k": 10, "rows": 300, "candidates": 98.6}
    method |= {"hit_rate": 0.2, "hit_rate_low": 0.1, "hit_rate_high": 0.3, "ndcg": 0.1}
    labels = {"linear": "as its label says"}
    found = Recommended(example=example, methods=[method], chosen="linear", labels=labels, reason="it is best")
    page = render_report(RESULTS, FIGURES, NOTES, found=found)
    titles, methods, models = (
        page.index(text) for text in ("Heat &lt;b&gt;", "as its label says", "How well do models predict")
    )
    assert page.index("Recommended to a visitor who took Casino, Ronin") < titles < methods < models
    assert "out of 99 candidates" in " ".join(page.split())  # as in `methods_table`
    assert '<tr class="best">\n  <td class="text name">linear (chosen)<br>' in page
    first_screen = page[page.index("Method for lists") : page.index("Recommended to a visitor")]
    for text in (
        'class="answer">linear<',
        "0.200 of the likes",
        "It is best.",
        "How sure is that?",
        "What does training cost?",
    ):
        assert text in first_screen


@pytest.mark.parametrize(("width", "explains"), [(60, False), (80, True)])
def test_on_narrow_terminals_explanations_give_way_not_names(monkeypatch, width, explains):
    monkeypatch.setenv("COLUMNS", str(width))
    metrics = [
        record | {"model": name} for record, name in zip(METRICS, ("statistics_probe", "lens_probe"), strict=False)
    ]
    table = models_table(metrics, {})
    assert "│ statistics_probe │" in printed(table, width)
    assert ("what it is" in [column.header for column in table.columns]) == explains


def test_a_missing_gauc_is_a_dash():
    missing = {"gauc": None, "gauc_low": None, "gauc_high": None, "gauc_users": 19}
    metrics = [record | missing for record in METRICS]
    text = printed(models_table(metrics))
    assert re.search(rf"0.740 to 0.780 │ +{DASH} │", text)
    assert "19 users" in text
    page = render_report(replace(RESULTS, metrics=metrics, segments=[]), FIGURES, {})
    assert re.search(rf"<td>{DASH}</td>\s*<td>{DASH}</td>", page)
    assert "GAUC is the mean over 19 users" in page


def test_the_report_says_who_gains():
    page = render_report(RESULTS, FIGURES, NOTES)
    table = page.split("<h2>Who benefits?</h2>")[1].split("</table>")[0]
    assert re.findall(r'scope="rowgroup" colspan="7">(\w+)<', table) == ["item", "user"]
    heads = re.findall(r'class="model" scope="col">([^<]+(?:<wbr>\w+)?)<', table)
    assert heads == ["reclora", "lens", "shared_<wbr>lora"]  # by falling AUC, as the cells below
    rows = [re.findall(r"<td( class=\"best\")?>([^<]+)</td>", row) for row in table.split("<tr>")]
    counts = [("", "1,717"), ("", "901"), ("", "250")]
    best = ' class="best"'
    assert [row for row in rows if row] == [
        [*counts, ("", DASH), ("", DASH), ("", DASH)],
        [*counts, (best, "0.771"), ("", "0.761"), ("", "0.721")],
        [*counts, ("", "0.550"), ("", "0.500"), (best, "0.600")],
    ]


def test_the_best_auc_is_bold_and_so_are_those_not_significantly_lower():
    page = render_report(RESULTS, FIGURES, NOTES)
    aucs = re.findall(r'<td class="text">(\w+)\s*</td>\s*<td( class="best")?>[\d.]+<br>', page)
    assert aucs == [("reclora", BEST), ("lens", BEST), ("shared_lora", "")]


def test_only_adjusted_p_values_make_a_difference_bold():
    page = render_report(RESULTS, FIGURES, NOTES)
    bold = re.findall(r'<tr( class="best")?>\s*<td class="text">(\w+) \N{MINUS SIGN} (\w+)</td>', page)
    assert [pair[1:] for pair in bold if pair[0]] == [("reclora", "shared_lora")]
    assert page.count(TESTS) == 2


def test_the_report_stands_alone():
    page = render_report(RESULTS, FIGURES, NOTES)
    assert page.count("plotly.js v") == 1
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)
    for name, figure in FIGURES.items():
        assert f"<h3>{figure.layout.title.text}</h3>" in page
        assert page.count(f'id="figure-{name}"') == 1
    first = " ".join(page[: page.index("What does training cost?")].split())
    assert "It has the highest AUC, 0.770 (95% interval 0.740 to 0.780), on 2,000 test rows." in first
    assert (
        f"Highest AUC: reclora, 0.770; not significantly lower: lens. Tested by {TESTS.replace('3 pairs', '2 pairs')}."
        in first
    )
    assert "reclora \N{MINUS SIGN} shared_lora" in page
    assert "1,234" in page
    assert "2,345" in page


def test_numbers_that_tell_drawn_negatives_from_likes_are_red():
    page = render_report(RESULTS, FIGURES, NOTES)
    assert f'<p class="alarm">{TELLS}</p>' in page.replace("&#39;", "'")
    test, train = page.index("0.601</td>"), page.index("0.512</td>")
    assert 'class="alarm"' in page[train:test]
    assert 'class="alarm"' not in page[page.index("Single numbers that separate") : train]
    without = render_report(replace(RESULTS, negatives_report=[]), FIGURES, NOTES)
    assert "Single numbers that separate" not in without


def test_what_a_training_spent_and_what_the_log_confirms_are_said():
    page = render_report(RESULTS, FIGURES, NOTES)
    cells = re.findall(r"<td[^>]*>(.*)</td>", page[page.index("Training of the adapters") :])
    assert cells[:9] == ["shared_lora", "276,480", "512", "0.710", "81", *[DASH] * 4]
    assert cells[9:18] == ["private", "36,864", "96", "0.600", "9", "1.875", "1e-05", "41", "0.625"]


def test_data_is_escaped():
    hostile = "<script>alert('hi')</script>"
    metrics = [record | {"model": record["model"].replace("lens", hostile)} for record in METRICS]
    comparisons = [pair | {"model_b": pair["model_b"].replace("lens", hostile)} for pair in COMPARISONS]
    figures = FIGURES | {"auc": go.Figure(go.Scatter(x=[1], y=[hostile], name=hostile), layout_title_text=hostile)}
    ingestion = [{"check": hostile, "rows": 1, "rule": hostile}]
    segments = [
        record | {"by": hostile, "segment": hostile, "model": metrics[n]["model"]}
        for n, record in enumerate(SEGMENTS[:3])
    ]
    results = Results(
        metrics=metrics,
        comparisons=comparisons,
        attribution=[record | {"model": hostile, "input": hostile} for record in ATTRIBUTION],
        segments=segments,
        ingestion_report=ingestion,
        history_report=ingestion,
        negatives_report=[NEGATIVES[1] | {"number": hostile, "warning": hostile}],
        training_report=[TRAINING[0] | {"model": hostile}],
    )
    page = render_report(results, figures, {})
    assert hostile not in page
    assert "&lt;script&gt;alert(&#39;hi&#39;)&lt;/script&gt;" in page


def test_rendering_leaves_the_figures_alone():
    render_report(RESULTS, FIGURES, NOTES)
    assert FIGURES["auc"].layout.title.text == "Title of auc"
