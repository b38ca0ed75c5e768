"""What a run has left, as a run of MLflow: metrics, figures, reports, parameters, versions and the current model."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when MLflow is imported

from kedro.pipeline import Pipeline
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID
from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH, MAX_PARAM_VAL_LENGTH, MAX_PARAMS_TAGS_PER_BATCH
from plotly.graph_objects import Figure

from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.datasets import loaded_folder, loaded_version, location
from kedro_provenance.files.digests import digest
from kedro_provenance.manifest import MANIFEST, parameters_of
from kedro_provenance.recipe import flat
from reclora_extras.tracking.config import TrackingConfig
from reclora_kedro.current_model import ALIAS
from reclora_kedro.study.grid import Cell
from reclora_kedro.study.results import CellResult, StudiedCell

RESULTS, RUN = "reclora.results", "reclora.run"  # tags: digest of the versions that were logged, and the run of Kedro


def log_run(
    config: TrackingConfig,
    run_params: Mapping[str, Any],
    parameters: dict[str, Any],
    pipeline: Pipeline,
    catalog: AtomicCatalog,
) -> str:
    """Log the stored outputs of a pipeline, whether this run has made or kept them; return a sentence about it.

    Outputs in the same versions are logged once. MlflowException is raised if MLflow cannot be reached, or refuses
    something.
    """
    names = sorted(pipeline.all_outputs())
    versions = {name: version for name in names if (version := loaded_version(catalog.get(name)))}
    if not versions:
        return "Nothing is logged to MLflow: the run leaves nothing that is stored."
    client = MlflowClient(config.uri)
    experiment, results = experiment_id(client, config), digest(versions)
    if logged := client.search_runs(
        [experiment], f"tags.`{RESULTS}` = '{results}' and attributes.status = 'FINISHED'", max_results=1
    ):
        return f"Nothing is new for MLflow: its run {logged[0].info.run_name} has these results."
    manifest = catalog.load(MANIFEST)
    end = time.time()
    run = client.create_run(
        experiment,
        start_time=int(1000 * (end - manifest["seconds"])),
        run_name=" ".join([*([run_params["env"]] if run_params["env"] else []), *manifest["pipelines"]]),
        tags={
            RESULTS: results,
            RUN: manifest["run_id"],
            MLFLOW_GIT_COMMIT: manifest["git_revision"] or "unknown",
            "reclora.nodes_run": f"{len(manifest['nodes'])} of {len(pipeline.nodes)}",
        },
    ).info
    try:
        log_parameters(client, run.run_id, parameters_of(pipeline.nodes, parameters, catalog))
        client.log_dict(run.run_id, manifest, "run_manifest.json")
        client.log_dict(run.run_id, versions, "versions.json")
        for name in versions:
            if layer(catalog, name) == "reporting":
                log_report(client, run.run_id, name, catalog.load(name))
        if "study_cells" in pipeline.inputs():
            for studied in map(StudiedCell.from_json, catalog.load("study_cells")):
                log_cell(client, experiment, run.run_id, studied.cell, studied.result)
        if ALIAS in versions:
            register_current_model(client, config.model, run, catalog)
    except Exception:
        client.set_terminated(run.run_id, "FAILED")
        raise
    client.set_terminated(run.run_id, end_time=int(1000 * end))
    return f"Logged to MLflow: run {run.run_name} of the experiment {config.experiment}, {config.uri}."


def experiment_id(client: MlflowClient, config: TrackingConfig) -> str:
    """Return the id of the experiment, which is made if there is none; a database of SQLite keeps its files beside."""
    if experiment := client.get_experiment_by_name(config.experiment):
        return experiment.experiment_id
    assert config.uri
    is_file, path = config.uri.startswith("sqlite:///"), Path(config.uri.removeprefix("sqlite:///"))
    files = (path.absolute().with_suffix("") / config.experiment).as_uri() if is_file else None
    return client.create_experiment(config.experiment, artifact_location=files)


def log_parameters(client: MlflowClient, run: str, parameters: Mapping[str, Any]) -> None:
    """Log nested parameters by their dotted paths; values are cut where MLflow takes no longer ones."""
    logged = [Param(key(path), str(value)[:MAX_PARAM_VAL_LENGTH]) for path, value in flat(parameters)]
    for first in range(0, len(logged), MAX_PARAMS_TAGS_PER_BATCH):
        client.log_batch(run, params=logged[first : first + MAX_PARAMS_TAGS_PER_BATCH])


def log_report(client: MlflowClient, run: str, name: str, content: Any) -> None:
    """Log a figure, a page or a table; a table with one record per model as metrics, too."""
    if isinstance(content, Figure):
        client.log_figure(run, content, f"figures/{name}.html")
    elif isinstance(content, str):
        client.log_text(run, content, f"{name}.html")
    elif isinstance(content, list | dict):
        client.log_dict(run, {"records": content} if isinstance(content, list) else content, f"tables/{name}.json")
        models = [record.get("model") for record in content if isinstance(record, Mapping)]
        if None not in models and len(set(models)) == len(models) == len(content):
            log_metrics(client, run, content, f"{name}/")


def log_metrics(client: MlflowClient, run: str, records: Iterable[Mapping[str, Any]], prefix: str = "") -> None:
    """Log the numbers of one record per model, such as ``metrics/reclora/auc`` and the ends of its interval."""
    now = int(1000 * time.time())
    metrics = [
        Metric(key(f"{prefix}{record['model']}/{name}"), value, now, 0)
        for record in records
        for name, value in record.items()
        if isinstance(value, int | float) and math.isfinite(value)
    ]
    if metrics:
        client.log_batch(run, metrics=metrics)


def log_cell(client: MlflowClient, experiment: str, parent: str, cell: Cell, result: CellResult) -> None:
    """Log a cell of a study as a child of the study's run: its place, seed and settings, and metrics of each model."""
    tags = {MLFLOW_PARENT_RUN_ID: parent}
    run = client.create_run(experiment, run_name=str(cell), tags=tags).info.run_id
    log_parameters(client, run, {"grid": cell.grid, **cell.place, "seed": cell.seed, **cell.settings})
    log_metrics(client, run, result.models)
    client.set_terminated(run)


def register_current_model(client: MlflowClient, name: str, run: Any, catalog: AtomicCatalog) -> None:
    """Have the alias ``champion`` of a registered model name the current model's weights, logged where they are new."""
    record = catalog.load(ALIAS)
    results = digest(record["versions"])
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    existing = [each for each in client.search_model_versions(f"name = '{name}'") if each.tags.get(RESULTS) == results]
    if not existing:
        for entry, version in record["versions"].items():
            folder = loaded_folder(catalog.get(entry), version)
            if layer(catalog, entry) == "models" and folder:
                client.log_artifacts(run.run_id, str(folder), f"{ALIAS}/{entry}")
        addresses = {entry: location(catalog.get(entry)) for entry in record["versions"]}
        client.log_dict(run.run_id, record | {"addresses": addresses}, f"{ALIAS}/{ALIAS}.json")
        source = f"{run.artifact_uri}/{ALIAS}"
        existing = [client.create_model_version(name, source, run.run_id, tags={RESULTS: results})]
    client.set_registered_model_alias(name, ALIAS, existing[0].version)


def layer(catalog: AtomicCatalog, name: str) -> str | None:
    """Return the layer of an entry in Kedro-Viz, which says what it is."""
    metadata = getattr(catalog.get(name), "metadata", None) or {}
    return metadata.get("kedro-viz", {}).get("layer")


def key(text: str) -> str:
    """Return a name that MLflow takes.

    Examples:
        >>> key("few-shot rows, layer[0]")
        'few-shot rows_ layer_0_'
    """
    return re.sub(r"[^\w.\- :/]", "_", text)[:MAX_ENTITY_KEY_LENGTH]
