"""What docs/guides/extend.md shows works from outside the project."""

import re
import sys
import tomllib

import numpy as np
import plotly.graph_objects as go
import polars as pl
import pytest

from bad_parameters import PARAMETERS
from cycle_log import cycle_log
from few_rows import random_prompts
from installed import installed
from kedro_provenance.failures import RunRefusedError
from named import names_with
from parity_log import config, log
from projects import ROOT, kedro_run
from reclora_kedro.adapters import methods
from reclora_kedro.adapters.registry import read_settings
from reclora_kedro.api import Recommender
from reclora_kedro.baselines import registry
from reclora_kedro.candidates.item_model import NoSettings, Training
from reclora_kedro.candidates.next_item.config import RetrieverConfig
from reclora_kedro.candidates.next_item.training import fit_retriever
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.metric import METRICS_GROUP, RowMetric
from reclora_kedro.evaluation.metrics import compute_metrics, row_metrics
from reclora_kedro.evaluation.report import Results, models_table, render_report
from reclora_kedro.evaluation.scores import PairedScores
from reclora_kedro.evaluation.significance import bootstrap_auc
from reclora_kedro.history.questions import questions
from reclora_kedro.lens.training import fit_lens
from reclora_kedro.pipelines import scoring
from reclora_kedro.recommendation.chosen import model_of
from reclora_kedro.recommendation.config import RecommendationConfig
from reclora_kedro.recommendation.item_ranks import rank_likes
from reclora_kedro.recommendation.list_metrics import Catalogue, ranking_metrics
from reclora_kedro.recommendation.ranking_metrics import compute_ranking_metrics
from reclora_kedro.recommendation.ranking_report import ranking_tables, render_ranking
from reclora_kedro.study.config import OUTPUTS
from reclora_kedro.study.figures import plot_axes, plot_frontier
from reclora_kedro.study.grid import Cell
from reclora_kedro.study.results import render_study, tabulate
from scored import ByItem, moments_of
from study_cells import finished
from terminal import printed

__all__ = ["config", "log"]

GUIDE = (ROOT / "docs/guides/extend.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", GUIDE, flags=re.DOTALL))
BOOTSTRAP = Bootstrap(confidence=0.9, seed=0)
[TOML] = re.findall(r"```toml\n(.*?)```", GUIDE, flags=re.DOTALL)


@pytest.fixture(autouse=True)
def _package(tmp_path_factory):
    points = tomllib.loads(TOML)["project"]["entry-points"]
    with installed(tmp_path_factory.mktemp("site"), {"my_package/__init__.py": "", **FILES}, points):
        yield
    for name in [name for name in sys.modules if name.startswith("my_package")]:
        del sys.modules[name]


def test_a_lens_is_trained_and_loaded_by_its_dotted_path(log, config, tmp_path):
    from reclora_kedro.lens.base import load_lens

    lens, training = fit_lens(log, config.model_copy(update={"model": "my_package.lens", "max_epochs": 2}))
    lens.save(tmp_path)
    assert type(load_lens(tmp_path)).__module__ == "my_package.lens"
    assert training.height > 0


def test_a_source_finds_items_by_its_dotted_path(log):
    training = Training.from_log(log)
    [source] = validated_names(["my_package.source"])
    moments = training.moments(log.now(pl.DataFrame({"user_index": [0, 1]})))
    lists = model_of(source).fit(training, NoSettings()).top(moments, 5)
    length = log.items["title"].str.len_chars().to_numpy()
    for row, items in enumerate(lists.items):
        last = length[log.sequences.item_index[log.sequences.ends[row] - 1]]
        near = np.sort(np.abs(length[moments.mask[row]] - last))[:5]
        assert np.abs(length[items] - last).tolist() == near.tolist()


def validated_names(sources):
    return RecommendationConfig.model_validate(PARAMETERS["recommendation"] | {"sources": sources}).sources


def test_a_retriever_is_trained_by_its_dotted_path():
    small = {"model": "my_package.retriever", "max_epochs": 1, "device": "cpu"}
    retriever, _ = fit_retriever(cycle_log(), RetrieverConfig(**PARAMETERS["retriever"] | small))
    assert type(retriever).__name__ == "RunningMean"


def test_an_adapter_of_a_method_is_saved_and_loaded(tiny_llm, tmp_path):
    settings = read_settings({"method": "my_package.adapter"})
    prompts = random_prompts(4)
    adapted = methods.new_adapter(tiny_llm.model, settings, prompts.gate_inputs, seed=0)
    adapted.save_pretrained(tmp_path)
    base = adapted.unload()
    sys.modules.pop("my_package.adapter")
    assert methods.method_of(methods.load_adapter(base, str(tmp_path))).name == "my_package.adapter"


def test_a_baseline_scores_test_rows_by_its_dotted_path(log):
    named = {"scoring.baselines": ["boosted_trees", "my_package.baseline"]}
    [node] = scoring.create_pipeline(names_with(named)).only_nodes_with_outputs("my_package.baseline_scores").nodes
    asked = questions(log.samples_in("test"), "test")
    scored = node.run({"log": log, "test_questions": asked})["my_package.baseline_scores"]
    for name, value in (
        ("NOTE", "the share of likes of the user in the training split"),
        ("LABEL", "share of the user's likes"),
    ):
        assert registry.attributes(name, ["my_package.baseline"]) == {"my_package.baseline": value}
    assert scored["row"].to_list() == asked["row"].to_list()
    assert scored["score"].is_between(0, 1).all()


def test_a_metric_of_predictions_is_in_the_report_the_terminal_and_studies():
    random, labels, rows = np.random.default_rng(0), np.arange(80) % 2 == 0, np.arange(80)
    paired = PairedScores(("lens",), rows, rows % 8, labels, random.random((1, 80)))
    [record] = metrics = compute_metrics(paired, bootstrap_auc(paired, BOOTSTRAP), BOOTSTRAP)
    assert record["brier"] == pytest.approx(np.mean((paired.scores[0] - labels) ** 2))
    assert record["brier_low"] < record["brier"] < record["brier_high"]
    tables = (
        "attribution",
        "segments",
        *(f"{name}_report" for name in ("ingestion", "history", "negatives", "training")),
    )
    figures = {name: go.Figure(layout_title_text=name) for name in ("auc", "roc", "calibration", "training")}
    page = render_report(Results(metrics=metrics, comparisons=[], **{name: [] for name in tables}), figures, {})
    shown = f"{record['brier']:.3f}"
    assert shown in page.partition("Brier score<br>")[2].partition("</table>")[0]
    assert "Mean squared distance" in page
    assert shown in printed(models_table(metrics)).partition("Brier")[2]
    left = {"metrics": metrics, "comparisons": [], "attribution": [], "lens_scores": pl.DataFrame({"row": rows})}
    assert shown in study_page(finished("key", OUTPUTS["metrics"], left)).partition("Brier score</th>")[2]


def test_a_metric_of_lists_is_in_the_report_the_terminal_evaluate_and_studies(log):
    letters = log.items["title"].str.len_chars().to_numpy()
    likes = log.samples.filter(split="test", label=1)
    ranks = rank_likes({"lens": ByItem(letters)}, moments_of(log, likes), likes, limit=3)
    catalogue, declared = Catalogue.from_log(log), ranking_metrics()
    [record] = metrics = compute_ranking_metrics(ranks, ["lens"], catalogue, (2,), BOOTSTRAP, metrics=declared)
    assert record["long_titles"] == np.mean([letters[items[:2]].mean() for items in ranks["top_items"].to_list()])
    shown = f"{record['long_titles']:.1f}"
    assert shown in render_ranking(metrics, [], {}, {}).partition("letters @2<br>")[2].partition("</table>")[0]
    assert shown in printed(ranking_tables(metrics, [], {})).partition("letters")[2]
    left = {"ranking_metrics": metrics, "lens_scores": pl.DataFrame({"row": range(80)})}
    assert shown in study_page(finished("key", OUTPUTS["ranking"], left)).partition("letters</th>")[2]

    events = pl.DataFrame({"user_id": np.arange(90) % 9, "item_id": [(3 * i + i // 9) % 11 for i in range(90)]})
    recommender = Recommender.fit(events, sources=["popularity"], method="popularity")
    assert recommender.evaluate(k=2)["long_titles"].is_between(1, 2).all()  # letters of ids from 0 to 10


def study_page(result):
    """The page of a study of one cell with this result."""
    results = tabulate([Cell("grid", {"axis": "one"}, 7, {})], [result], None)
    return render_study(results, {"grid": "Grid"}, {"axes": plot_axes(results), "frontier": plot_frontier(results)})


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("my_package.metrics", "names <module 'my_package.metrics'.*expected a RowMetric or a RankingMetric"),
        ("reclora_kedro.evaluation.metrics:AUC", "declares a second metric auc: rename it"),
    ],
)
def test_what_is_no_metric_of_its_own_is_refused(tmp_path, declared, message):
    with installed(tmp_path, {}, {METRICS_GROUP: {"odd": declared}}), pytest.raises(ValueError, match=message):
        row_metrics()


def test_a_metric_without_a_number_for_each_row_is_refused():
    metric = RowMetric(name="odd", heading="odd", per_row=lambda labels, scores: [1, np.nan])
    with pytest.raises(ValueError, match=r"metric odd: per_row returned values of shape \(2,\), 1 of them not finite"):
        metric.values(3, None, None)


def test_a_pipeline_runs_with_its_own_settings_and_entries(fabricated_project, monkeypatch):
    from reclora_kedro import settings
    from reclora_kedro.extensions import conf_folders

    monkeypatch.setitem(settings.CONFIG_LOADER_ARGS, "below_base", conf_folders())  # which a new process finds
    kedro_run(fabricated_project, pipeline_names=["ingestion"])
    shown = {"longest_titles": {"items": 2}}
    catalog = kedro_run(fabricated_project, shown, pipeline_names=["longest_titles"])
    assert len(catalog.load("longest_titles")) == 2
    with pytest.raises(RunRefusedError, match=r"longest_titles\.item is not a parameter.*longest_titles\.items"):
        kedro_run(fabricated_project, {"longest_titles": {"item": 2}}, pipeline_names=["longest_titles"])
    with pytest.raises(RunRefusedError, match=r"no pipeline longest_title. The nearest name is longest_titles"):
        kedro_run(fabricated_project, pipeline_names=["longest_title"])
