"""Runs as the functions of their start see them, without a session."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.run import Aliases, Checks, Run

RUN_PARAMS = {
    "run_id": "2026-01-01T00.00.00.000Z",
    "only_missing_outputs": False,
    "env": None,
    "pipeline_names": [],
    "load_versions": None,
    "runner": "None",
}


def start(
    project: Path = Path("project"),
    pipeline: Pipeline | None = None,
    catalog: DataCatalog | None = None,
    parameters: dict[str, Any] | None = None,
    data: str = "data",
    checks: Sequence[Checks] = (),
    aliases: Aliases | None = None,
    **run_params: Any,
) -> Run:
    """A run in a folder whose environment keeps its data in `data`."""
    loader = {"parameters": parameters or {}, "globals": {"data": data}}
    context = SimpleNamespace(config_loader=loader, project_path=project, env=run_params.get("env"))
    catalog = AtomicCatalog() if catalog is None else catalog
    return Run(context, RUN_PARAMS | run_params, pipeline or Pipeline([]), catalog, checks, aliases or Aliases())
