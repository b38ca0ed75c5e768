"""The evaluation pipeline on fabricated scores, with the entries of conf/base."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from pydantic import ValidationError

from reclora_kedro.configured_names import variant_histories
from reclora_kedro.evaluation.config import EvaluationConfig
from reclora_kedro.pipelines.evaluation import create_pipeline

CONF = Path(__file__).parents[2] / "conf" / "base"
ENTRIES = yaml.safe_load((CONF / "catalog_evaluation.yml").read_text())


@pytest.fixture
def catalog(tmp_path: Path) -> DataCatalog:
    rng = np.random.default_rng(0)
    labels = (rng.random(200) < 0.5).astype(np.int8)
    scores = [
        pl.DataFrame({"row": np.arange(200, dtype=np.uint32), "label": labels, "score": (labels + rng.random(200)) / 2})
        .with_columns(model=pl.lit(model))
        .select("row", "label", "model", "score")
        for model in ("lens", "untrained", *variant_histories())
    ]
    log = pl.DataFrame(
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
        "lens_training_log": log,
        **{f"{variant}.training_log": log for variant in variant_histories()},
        "ingestion_report": [{"check": "ratings outside the scale", "rows": 3, "rule": "dropped"}],
        "params:evaluation": EvaluationConfig(),
    }
    entries = {name: entry | {"filepath": f"{tmp_path}/{entry['filepath']}"} for name, entry in ENTRIES.items()}
    catalog = DataCatalog.from_config(entries)
    for name, data in inputs.items():
        catalog[name] = MemoryDataset(data)
    return catalog


def test_it_leaves_every_entry_of_its_catalog(catalog: DataCatalog, capsys: pytest.CaptureFixture[str]):
    SequentialRunner().run(create_pipeline(), catalog)

    models = ["lens", "untrained", *variant_histories()]
    left = {name: catalog.load(name) for name in ENTRIES}
    assert [record["model"] for record in left["metrics"]] == models
    assert len(left["comparisons"]) == len(models) * (len(models) - 1) // 2
    assert {trace.name for trace in left["training_figure"].data} == {"lens", *variant_histories()}
    assert "ratings outside the scale" in left["evaluation_report"]
    printed = capsys.readouterr().out
    assert all(model in printed for model in models)


def test_results_are_shown_last():
    assert create_pipeline().nodes[-1].name == "evaluation.show_results"


def test_models_scored_on_different_rows_stop_the_run_before_anything_is_saved(catalog: DataCatalog):
    catalog["scores"] = MemoryDataset(catalog.load("scores")[:-3])
    last = [*variant_histories()][-1]
    with pytest.raises(ValueError, match=rf"model '{last}' was not scored .* 3 row\(s\) are missing and 0 are extra"):
        SequentialRunner().run(create_pipeline(), catalog)
    assert not any(catalog[name].exists() for name in ENTRIES)


@pytest.mark.parametrize("block", [{"confidense": 0.9}, {"confidence": 95}, {"calibration_bins": 1}])
def test_a_mistyped_parameter_is_refused(block: dict[str, float]):
    with pytest.raises(ValidationError, match=next(iter(block))):
        EvaluationConfig(**block)
