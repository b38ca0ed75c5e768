"""The evaluation pipeline on fabricated scores, with the entries of conf/base."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from kedro_provenance.errors import MismatchError
from named import names_with
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.finetuning.training_log import training_report
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.pipelines.evaluation import create_pipeline
from reference_log import reference_log

NAMES = names_with()
CONF = Path(__file__).parents[2] / "conf" / "base"
ENTRIES = yaml.safe_load((CONF / "catalog_evaluation.yml").read_text().replace("${globals:data}", "data"))


@pytest.fixture
def log() -> InteractionLog:
    """20 users who interact one after another, 20 times each; the last 200 interactions test."""
    rng = np.random.default_rng(0)
    interactions = pl.DataFrame(
        {
            "user_id": np.arange(400) // 20,
            "item_id": rng.integers(30, size=400),
            "rating": rng.integers(1, 6, size=400).astype(float),
            "timestamp": np.arange(400),
        }
    ).with_columns(label=(pl.col("rating") >= 3).cast(pl.Int8))
    items, users = pl.DataFrame({"item_id": range(30)}), pl.DataFrame({"user_id": range(20)})
    log = reference_log(interactions, items, users)
    split = pl.when(pl.col("row") < 200).then(pl.lit("train")).otherwise(pl.lit("test"))
    return replace(log, samples=log.samples.with_columns(split=split))


@pytest.fixture
def catalog(tmp_path: Path, log: InteractionLog) -> DataCatalog:
    rng = np.random.default_rng(0)
    test = log.samples.filter(pl.col("split") == "test").select("row", "label", user="user_index")
    scores = [
        test.select(
            "row", "user", "label", model=pl.lit(model), score=(test["label"] + pl.Series(rng.random(test.height))) / 2
        )
        for model in ("lens", "untrained", *NAMES.variants)
    ]
    permuted = test.select("row", "label", input=pl.lit("prompt"), score=pl.Series(rng.random(test.height)))
    training_log = pl.DataFrame(
        {
            "rows": [8, 16],
            "train_loss": [0.7, 0.6],
            "validation_loss": [None, 0.65],
            "validation_auc": [None, 0.7],
            "seconds": [1.0, 2.0],
        }
    )
    inputs = {
        "scores": pl.concat(scores),
        "log": log,
        "lens_metrics": [{"model": "lens", "auc": 0.75}],
        **{f"{baseline}_scores": scores[0].select("row", "score") for baseline in NAMES.baselines},
        "lens_training_log": training_log,
        "lens_permuted_scores": permuted.with_columns(input=pl.lit("item")),
        **{f"{llm}.permuted_scores": permuted for llm in ("untrained", *NAMES.variants)},
        **{f"{variant}.training_log": training_log for variant in NAMES.variants},
        "ingestion_report": [{"check": "ratings outside the scale", "rows": 3, "rule": "dropped"}],
        "history_report": [{"check": "train samples", "rows": 30, "rule": "rows kept"}],
        "negatives_report": [],
        "training_report": training_report(shared_lora=training_log),
        "params:allow_mixed": True,
        "params:scoring.baselines": [*NAMES.baselines],
        "params:bootstrap": Bootstrap(confidence=0.95, seed=0).model_copy(update={"samples": 200}),
    }
    entries = {name: entry | {"filepath": f"{tmp_path}/{entry['filepath']}"} for name, entry in ENTRIES.items()}
    catalog = DataCatalog.from_config(entries)
    for name, data in inputs.items():
        catalog[name] = MemoryDataset(data)
    return catalog


def test_it_leaves_every_entry_of_its_catalog(catalog: DataCatalog, capsys: pytest.CaptureFixture[str]):
    SequentialRunner().run(create_pipeline(NAMES), catalog)

    models = ["lens", "untrained", *NAMES.variants]
    left = {name: catalog.load(name) for name in ENTRIES}
    assert [record["model"] for record in left["metrics"]] == models
    assert [record["split_auc"] for record in left["metrics"]] == [0.75, None, *[None] * len(NAMES.variants)]
    assert len(left["comparisons"]) == len(models) * (len(models) - 1) // 2
    segments = {(record["by"], record["segment"]): record for record in left["segments"]}
    assert segments["user", "new: no training row"]["rows"] == 200
    assert ("user", "known") not in segments
    assert [record["model"] for record in left["segments"][: len(models)]] == models
    assert [(record["model"], record["input"]) for record in left["attribution"]] == [
        ("lens", "item"),
        *((llm, "prompt") for llm in ("untrained", *NAMES.variants)),
    ]
    assert {trace.name for trace in left["training_figure"].data} == {"lens", *NAMES.variants}
    for name in ("auc", "roc", "calibration", "training"):
        assert f"<h3>{left[f'{name}_figure'].layout.title.text}</h3>" in left["evaluation_report"]
    assert "ratings outside the scale" in left["evaluation_report"]
    assert "train samples" in left["evaluation_report"]
    assert "allowed to read results of different data" in left["evaluation_report"]
    assert "new: no training row" in left["evaluation_report"]
    printed = capsys.readouterr().out
    assert all(model in printed for model in models)


def test_results_are_shown_last():
    assert create_pipeline(NAMES).nodes[-1].name == "evaluation.show_results"


def test_models_scored_on_different_rows_stop_the_run_before_anything_is_saved(catalog: DataCatalog):
    catalog["scores"] = MemoryDataset(catalog.load("scores")[:-3])
    last = [*NAMES.variants][-1]
    with pytest.raises(ValueError, match=rf"3 row\(s\) do not have one score of each model, .* of \[.*'{last}'\]\."):
        SequentialRunner().run(create_pipeline(NAMES), catalog)
    assert not any(catalog[name].exists() for name in ENTRIES)


def test_scores_of_another_log_are_refused(catalog: DataCatalog, log: InteractionLog):
    catalog["log"] = MemoryDataset(replace(log, samples=log.samples.head(300)))
    with pytest.raises(MismatchError, match=r"100 of 200 rows in scores are no samples of the log"):
        SequentialRunner().run(create_pipeline(NAMES), catalog)
