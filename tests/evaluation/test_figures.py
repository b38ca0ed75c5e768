import numpy as np
import plotly.graph_objects as go
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from reclora_kedro.evaluation import figures
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.figures import (
    ROC_POINTS,
    calibration_table,
    plot_auc,
    plot_calibration,
    plot_hit_rates,
    plot_ranking,
    plot_retriever,
    plot_roc,
    plot_training,
    save_pictures,
)
from reclora_kedro.evaluation.metrics import compute_metrics
from reclora_kedro.evaluation.scores import PairedScores
from reclora_kedro.evaluation.significance import bootstrap_auc
from reclora_kedro.evaluation.styles import Style, model_styles

STYLE = Style("#9C755F", "hexagon", "longdash")
MODELS = ("lens", "untrained", "shared_lora", "reclora")


@pytest.fixture
def paired() -> PairedScores:
    rng = np.random.default_rng(0)
    labels = rng.random(5000) < 0.5
    scores = (labels + rng.random((4, 5000)) * np.array([[1], [9], [3], [2]])) / np.array([[2], [10], [4], [3]])
    rows = np.arange(5000)
    return PairedScores(MODELS, rows, rows // 10, labels, scores)


@pytest.fixture
def metrics(paired) -> list[dict]:
    bootstrap = Bootstrap(confidence=0.95, seed=0).model_copy(update={"samples": 200})
    return compute_metrics(paired, bootstrap_auc(paired, bootstrap), bootstrap)


@pytest.fixture
def training_logs() -> dict[str, pl.DataFrame]:
    log = pl.DataFrame(
        {
            "rows": [10, 20, 30, 40],
            "train_loss": [0.7, 0.6, 0.5, 0.4],
            "validation_loss": [None, 0.65, None, 0.6],
            "validation_auc": [None, 0.7, None, 0.75],
        }
    )
    return {"lens": log, "shared_lora": log, "reclora": log}


def colors(figure) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for trace in figure.data:
        model = trace.name.split(" ")[0]
        found.setdefault(model, set()).add(trace.line.color or trace.marker.color)
    return found


def test_a_model_has_one_color_in_every_figure(paired, metrics, training_logs):
    figures = [
        plot_auc(metrics, {}),
        plot_roc(paired, {}),
        plot_calibration(paired, {}),
        plot_training(**training_logs),
    ]
    styles = model_styles(MODELS, {})
    for model, style in styles.items():
        assert set().union(*(colors(figure).get(model, set()) for figure in figures)) == {style.color}
    assert len(set(styles.values())) == len(MODELS)


def test_many_variants_are_told_apart():
    variants = [f"variant_{number}" for number in range(16)]
    assert len(set(model_styles(["lens", *variants], {}).values())) == 17


def test_titles_say_what_is_seen(paired, metrics, training_logs):
    assert plot_auc(metrics, {}).layout.title.text.startswith("lens has the highest AUC: 1.000")
    assert plot_auc(metrics, {}).layout.xaxis.title.text.startswith("AUC and 95% interval")
    assert "lens ranks 100% of the likes" in plot_roc(paired, {}).layout.title.text
    assert plot_training(**training_logs).layout.title.text == (
        "Validation AUC: lens 0.750, shared_lora 0.750, reclora 0.750"
    )


def test_a_thinned_roc_curve_keeps_its_ends_and_its_area(paired):
    for curve, scores in zip(plot_roc(paired, {}).data[1:], paired.scores, strict=True):
        assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
        assert len(curve.x) <= ROC_POINTS
        assert np.trapezoid(curve.y, curve.x) == pytest.approx(roc_auc_score(paired.labels, scores), abs=2e-3)


def test_calibration_bins_hold_every_row_once():
    scores = np.random.default_rng(0).random(1000)
    table = calibration_table(scores > np.median(scores), scores, bins=10)
    assert table["rows"].to_list() == [100] * 10
    assert table["share_of_likes"].to_list() == [0.0] * 5 + [1.0] * 5
    assert table["mean_score"].is_sorted()


def test_tied_scores_share_a_bin():
    table = calibration_table(np.array([True, False] * 50), np.full(100, 0.7), bins=10)
    assert table.rows() == [(pytest.approx(0.7), 0.5, 100)]


def test_a_log_without_validation_is_refused(training_logs):
    never = training_logs["reclora"].with_columns(validation_auc=pl.lit(None, pl.Float64))
    with pytest.raises(ValueError, match=r"log of 'reclora' has no validation AUC in 4 row\(s\)"):
        plot_training(**training_logs | {"reclora": never})


def test_ranking_is_drawn_at_the_first_cutoff_with_its_intervals():
    def record(model, k, ndcg):
        hit_rate = {"hit_rate": 0.5, "hit_rate_low": 0.4, "hit_rate_high": 0.7}
        return {"model": model, "k": k, "rows": 30, "users": 9, "confidence": 0.95} | hit_rate | {
            "ndcg": ndcg, "ndcg_low": ndcg - 0.1, "ndcg_high": ndcg + 0.2
        }  # fmt: skip

    records = [record(model, k, ndcg) for model, ndcg in (("popularity", 0.2), ("lens", 0.3)) for k in (5, 10)]
    figure = plot_ranking(records, {"popularity": STYLE})
    assert figure.layout.title.text == "lens ranks best: NDCG@5 0.300 on 30 likes of 9 users"
    assert [trace.name for trace in figure.data] == ["popularity", "popularity", "lens", "lens"]
    assert figure.data[3].x == (0.3,)
    assert figure.data[3].error_x.array == pytest.approx([0.2])
    assert len(set(model_styles(["popularity", "lens", "untrained", "reclora"], {"popularity": STYLE}).values())) == 4


def test_hit_rates_are_a_line_per_model():
    figure = plot_hit_rates({"popularity": (np.array([1, 9]), np.array([0.1, 0.5]))}, {"popularity": STYLE})
    [line] = figure.data
    assert (line.name, line.line.color, list(line.x), list(line.y)) == ("popularity", STYLE.color, [1, 9], [0.1, 0.5])


def test_the_curve_of_a_retriever_names_its_best_epoch():
    log = [
        {"epoch": e, "loss": 9.0 - e, "hit_rate": rate, "ndcg": rate / 2} for e, rate in enumerate((0.1, 0.3, 0.2), 1)
    ]
    figure = plot_retriever(log)
    assert figure.layout.title.text == "Best epoch: 2, hit rate 0.300 and NDCG 0.150"
    assert [list(trace.y) for trace in figure.data] == [[8.0, 7.0, 6.0], [0.1, 0.3, 0.2], [0.05, 0.15, 0.1]]


def test_the_newest_figures_of_a_folder_are_drawn_as_png(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="has no figures: make them first"):
        save_pictures(tmp_path, tmp_path / "pictures")
    for name, version in (("auc", "1"), ("auc", "2"), ("roc", "1")):
        (tmp_path / f"{name}_figure.json" / version).mkdir(parents=True)
        figure = go.Figure(layout_title_text=f"{name} {version}")
        figure.write_json(tmp_path / f"{name}_figure.json" / version / f"{name}_figure.json")
    drawn = {}

    def draw(figure, file, **_):
        drawn[file] = figure
        file.touch()

    monkeypatch.setattr(figures, "require_extra", lambda extra, needed_by: None)
    monkeypatch.setattr("plotly.io.write_images", lambda figures, files, **_: draw(figures[1], files[1]))  # drops one
    monkeypatch.setattr("plotly.io.write_image", draw)
    files = save_pictures(tmp_path, tmp_path / "pictures")
    assert files == [tmp_path / "pictures" / f"{name}_figure.png" for name in ("auc", "roc")]
    assert [drawn[file].layout.title.text for file in files] == ["auc 2", "roc 1"]
