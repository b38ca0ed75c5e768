import io
import re

import plotly.graph_objects as go
import pytest
from rich.console import Console

from reclora_kedro.evaluation.report import lens_table, render_report, results_tables, summarise

LENS = {
    "model": "lens", "rows": 2000, "positives": 1100, "auc": 0.76, "auc_low": 0.74, "auc_high": 0.78,
    "log_loss": 0.58, "accuracy": 0.7,
}  # fmt: skip
METRICS = [
    LENS,
    LENS | {"model": "shared_lora", "auc": 0.72, "log_loss": 0.61},
    LENS | {"model": "reclora", "auc": 0.77, "log_loss": 0.57},
]
COMPARISONS = [
    {
        "model_a": "shared_lora",
        "model_b": "lens",
        "auc_difference": -0.04,
        "low": -0.06,
        "high": -0.02,
        "p_value": 1e-5,
    },
    {"model_a": "reclora", "model_b": "lens", "auc_difference": 0.01, "low": -0.01, "high": 0.03, "p_value": 0.3},
    {
        "model_a": "reclora",
        "model_b": "shared_lora",
        "auc_difference": 0.05,
        "low": 0.03,
        "high": 0.07,
        "p_value": 1e-6,
    },
]
INGESTION = [{"check": "ratings outside the scale", "rows": 1234, "rule": "dropped"}]
FIGURES = {name: go.Figure(layout_title_text=f"Title of {name}") for name in ("auc", "roc", "calibration", "training")}


def test_the_summary_is_computed():
    first, second, third = summarise(METRICS, COMPARISONS, 0.95)
    assert first == (
        "On the same 2,000 test rows (1,100 likes), reclora has the highest AUC: 0.770 (95% interval 0.740 to 0.780)."
    )
    assert second == "lens follows at 0.760, 0.010 below reclora: within what chance explains (p = 0.300)."
    assert third == "shared_lora follows at 0.720, 0.040 below lens: more than chance explains (p < 0.001)."


def test_a_level_between_whole_percents_is_not_rounded():
    assert "(99.5% interval" in summarise(METRICS, COMPARISONS, 0.995)[0]
    assert "in fewer than\n0.5% of the tests" in render_report(METRICS, COMPARISONS, INGESTION, FIGURES, 0.995)


@pytest.mark.parametrize("width", [80, 100])
def test_the_tables_fit_a_plain_stream(width: int):
    stream = io.StringIO()
    Console(file=stream, width=width).print(results_tables(METRICS, COMPARISONS, 0.95))
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    assert "…" not in text
    for expected in ("2,000", "0.740 to 0.780", "reclora - shared_lora", "+0.050", "+0.030 to +0.070", "< 0.001"):
        assert expected in text


def test_the_report_stands_alone():
    page = render_report(METRICS, COMPARISONS, INGESTION, FIGURES, 0.95)
    assert page.count("plotly.js v") == 1
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)
    for name, figure in FIGURES.items():
        assert f"<h3>{figure.layout.title.text}</h3>" in page
        assert page.count(f'id="figure-{name}"') == 1
    for sentence in summarise(METRICS, COMPARISONS, 0.95):
        assert sentence.replace("<", "&lt;") in page
    assert "reclora \N{MINUS SIGN} shared_lora" in page
    assert "1,234" in page


def test_data_is_escaped():
    hostile = "<script>alert('hi')</script>"
    metrics = [record | {"model": record["model"].replace("lens", hostile)} for record in METRICS]
    comparisons = [pair | {"model_b": pair["model_b"].replace("lens", hostile)} for pair in COMPARISONS]
    figures = FIGURES | {"auc": go.Figure(go.Scatter(x=[1], y=[hostile], name=hostile), layout_title_text=hostile)}
    ingestion = [{"check": hostile, "rows": 1, "rule": hostile}]
    page = render_report(metrics, comparisons, ingestion, figures, 0.95)
    assert hostile not in page
    assert "&lt;script&gt;alert(&#39;hi&#39;)&lt;/script&gt;" in page


def test_rendering_leaves_the_figures_alone():
    render_report(METRICS, COMPARISONS, INGESTION, FIGURES, 0.95)
    assert FIGURES["auc"].layout.title.text == "Title of auc"


@pytest.mark.parametrize(
    ("seeds", "aucs"),
    [(3, "0.7500±0.0010 │ 0.7600±0.0020"), (1, "    0.7500 │ 0.7600")],
    ids=["three seeds", "one seed"],
)
def test_lenses_fit_a_narrow_terminal(seeds, aucs):
    lens = {
        "lens": "gru4rec", "seeds": seeds, "parameters": 132_289, "rows_per_second": 48_736.2, "seconds": 129.4,
        "validation_auc": 0.75, "validation_auc_spread": 0.001, "test_auc": 0.76, "test_auc_spread": 0.002,
        "test_log_loss": 0.5745,
    }  # fmt: skip
    console = Console(width=80, file=io.StringIO())
    console.print(lens_table([lens]))
    shown = console.file.getvalue()
    assert ("mean of 3 seeds" in shown) == (seeds > 1)
    assert f"│ gru4rec │ {aucs} │   0.5745 │ 132,289 │ 48,736 │ 129 │" in shown
