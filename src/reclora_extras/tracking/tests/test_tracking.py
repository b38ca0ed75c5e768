"""What finished runs leave in MLflow, in a database of SQLite."""

import json
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from kedro.io import MemoryDataset
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from pydantic import ValidationError

from kedro_provenance.datasets import loaded_version
from projects import kedro_run
from reclora_extras.tracking import log
from reclora_extras.tracking.config import TrackingConfig
from reclora_extras.tracking.hooks import TrackingHooks
from reclora_extras.tracking.log import experiment_id, log_cell, log_parameters, register_current_model
from study_cells import CELLS, RUNS


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return TrackingConfig(
        uri=f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db", experiment="mine", model="mine"
    )


@pytest.fixture(scope="module")
def client(config):
    return MlflowClient(config.uri)


@pytest.fixture(scope="module")
def experiment(client, config):
    return experiment_id(client, config)


@pytest.fixture(scope="module")
def tracked(finished_run, config):
    """The catalog after the finished flow was asked for once more, which runs none of its nodes, with tracking."""
    on = {"tracking": config.model_dump()}
    return kedro_run(finished_run.project, on, only_missing_outputs=True)


@pytest.fixture(scope="module")
def run(tracked, client, experiment):
    [run] = client.search_runs([experiment], "attributes.run_name = 'test __default__'")
    return run


def test_a_run_that_makes_nothing_logs_what_is_stored(run, tracked):
    for record in tracked.load("metrics"):
        logged = {
            name: run.data.metrics[f"metrics/{record['model']}/{name}"] for name in ("auc", "auc_low", "auc_high")
        }
        assert logged == {name: record[name] for name in logged}
    made, all_nodes = map(int, run.data.tags["reclora.nodes_run"].split(" of "))
    assert made < all_nodes / 2  # those alone that show something
    assert run.info.status == "FINISHED"


def test_figures_reports_versions_and_the_manifest_are_files_of_the_run(run, tracked, client, tmp_path):
    files = {file.path for folder in ("", "figures") for file in client.list_artifacts(run.info.run_id, folder)}
    assert {"figures/auc_figure.html", "evaluation_report.html", "versions.json", "run_manifest.json"} <= files
    versions = json.loads(Path(client.download_artifacts(run.info.run_id, "versions.json", str(tmp_path))).read_text())
    assert versions["metrics"] == loaded_version(tracked.get("metrics"))


def test_parameters_are_flat(run, tracked):
    assert run.data.params["lens.max_epochs"] == "3"
    assert run.data.params["finetuning.variants.reclora.adapter.method"] == "reclora"
    assert len(run.data.params) > 100


def test_results_that_are_logged_are_not_logged_again(run, finished_run, config, client, experiment):
    kedro_run(finished_run.project, {"tracking": config.model_dump()}, only_missing_outputs=True)
    assert len(client.search_runs([experiment], "attributes.run_name = 'test __default__'")) == 1


def test_a_study_is_a_run_with_a_child_per_cell(client, experiment):
    parent = client.create_run(experiment).info.run_id
    for cell, result in zip(CELLS, RUNS, strict=True):
        log_cell(client, experiment, parent, cell, result)
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
    assert {
        (child.data.params["r"], child.data.params["seed"]): child.data.metrics["reclora/auc"] for child in children
    } == {("4", "7"): 0.70, ("4", "1"): 0.72, ("16", "7"): 0.74, ("16", "1"): 0.80}


def test_parameters_keep_within_the_limits_of_mlflow(client, experiment):
    run = client.create_run(experiment).info.run_id
    log_parameters(
        client, run, {"a" * 300: "b" * 9000, "few-shot [rows]": 1, **{f"p{number}": number for number in range(150)}}
    )
    logged = client.get_run(run).data.params
    assert (logged["a" * 250], logged["few-shot _rows_"], len(logged)) == ("b" * 6000, "1", 152)


def test_the_alias_follows_the_current_model_there_and_back(client, experiment, tracked):
    lens = loaded_version(tracked.get("lens"))
    for versions in ({"lens": lens}, {}, {"lens": lens}):
        catalog = SimpleNamespace(get=tracked.get, load=lambda name, versions=versions: {"versions": versions})
        register_current_model(client, "mine", client.create_run(experiment).info, catalog)
    assert len(client.search_model_versions("name = 'mine'")) == 2
    current = client.get_model_version_by_alias("mine", "champion")
    assert int(current.version) == 1
    assert client.list_artifacts(current.run_id, "champion/lens")


@pytest.mark.parametrize("uri", ["mlruns", "./mlruns", "file:///tmp/mlruns"])
def test_folders_are_refused_as_mlflow_refuses_them(uri):
    with pytest.raises(ValidationError, match="is not a database or server; expected for example sqlite"):
        TrackingConfig(uri=uri, experiment="mine", model="mine")


def test_a_failure_of_mlflow_fails_no_run(caplog, config, monkeypatch):
    hooks = TrackingHooks()
    hooks.after_context_created(SimpleNamespace(config_loader={"parameters": {"tracking": config.model_dump()}}))
    monkeypatch.setattr(log, "MlflowClient", Mock(side_effect=MlflowException("The server is gone")))
    catalog = SimpleNamespace(get=lambda name: MemoryDataset(1))
    monkeypatch.setattr(log, "loaded_version", lambda dataset: "2026-01-01")
    hooks.after_pipeline_run({}, SimpleNamespace(all_outputs=lambda: {"metrics"}), catalog)
    assert "The run succeeded, but was not logged to MLflow: The server is gone" in caplog.text
