"""What a run reads must be there before it begins."""

from glob import has_magic
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import AbstractVersionedDataset, DataCatalog
from kedro.pipeline import Pipeline

from reclora_kedro.hooks.refusal import RunRefusedError


class InputHooks:
    """Refuses a run whose inputs are not there: raw files, and versions that an earlier pipeline makes."""

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Look for every input.

        Raises:
            RunRefusedError: one is missing. It says where it comes from.
        """
        if run_params["only_missing_outputs"]:  # the runner decides later which nodes it leaves out
            return
        missing = {name: catalog.get(name) for name in sorted(pipeline.inputs()) if is_missing(catalog.get(name))}
        if missing:
            pipelines.set_requested(None)  # all of them, to see which ones make what is missing
            lines = [f"- {name}: {absence(dataset)}; {source(name)}" for name, dataset in missing.items()]
            raise RunRefusedError("\n".join(["What this run reads is not there. Nothing was written.", *lines]))


def is_missing(dataset: Any) -> bool:
    """Whether a dataset's file is not there, or none of its versions, or not the one that was asked for."""
    if not isinstance(dataset, AbstractVersionedDataset) or has_magic(str(dataset._filepath)):
        return False
    if not dataset._version:
        return not dataset.exists()
    versions = dataset.list_versions(full_path=False)
    return not versions or (dataset._version.load or versions[0]) not in versions


def absence(dataset: Any) -> str:
    """What was looked for, and where."""
    if not dataset._version:
        return f"no file {dataset._filepath}"
    version = f"version {dataset._version.load}" if dataset._version.load else "version"
    return f"no {version} in {dataset._filepath}"


def source(name: str) -> str:
    """Where a catalog entry comes from."""
    makers = [step for step, pipeline in pipelines.items() if name in pipeline.all_outputs() and step != "__default__"]
    if makers:
        return f"the pipeline {makers[0]} makes it"
    return "it is raw data, and its catalog file in conf/ says where to get it"
