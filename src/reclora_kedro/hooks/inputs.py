"""What earlier pipelines leave must be there before a later one begins."""

from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import AbstractVersionedDataset, DataCatalog
from kedro.pipeline import Pipeline

from reclora_kedro.hooks.refusal import RunRefusedError


class InputHooks:
    """Refuses a run whose inputs no run has made yet."""

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Look for a version of every input.

        Raises:
            RunRefusedError: one has none. It says which pipeline makes it.
        """
        if run_params["only_missing_outputs"]:  # the runner decides later which nodes it leaves out
            return
        missing = {name: catalog.get(name) for name in sorted(pipeline.inputs()) if has_no_version(catalog.get(name))}
        if missing:
            pipelines.set_requested(None)  # all of them, to see which ones make what is missing
            raise RunRefusedError(
                "This run reads what is not there yet:\n"
                + "".join(f"- {name}{where(dataset)}, {made_by(name)}\n" for name, dataset in missing.items())
                + "Nothing was written. Run what makes them first, or the whole flow with `kedro run`."
            )


def has_no_version(dataset: Any) -> bool:
    """Whether a dataset is versioned and has no version, or not the one that was asked for."""
    if not isinstance(dataset, AbstractVersionedDataset) or not dataset._version:
        return False
    versions = dataset.list_versions(full_path=False)
    return not versions or (dataset._version.load or versions[0]) not in versions


def where(dataset: Any) -> str:
    """What was looked for, and where."""
    return f": no version {dataset._version.load or ''}".rstrip() + f" in {dataset._filepath}"


def made_by(name: str) -> str:
    """The pipeline that makes a catalog entry; `__default__` joins several, so it says nothing."""
    makers = [step for step, pipeline in pipelines.items() if name in pipeline.all_outputs() and step != "__default__"]
    return f"made by the pipeline {makers[0]}" if makers else "made by no pipeline"
