"""What a run reads must be there before it begins."""

from glob import has_magic
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import AbstractVersionedDataset
from kedro.io.core import VersionNotFoundError
from kedro.pipeline import Pipeline

from reclora_kedro.runs.catalog import AtomicCatalog, location, remote_versions
from reclora_kedro.runs.hooks.errors import how_to_make
from reclora_kedro.runs.hooks.refusal import RunRefusedError


class InputHooks:
    """Refuses a run whose inputs are not there: raw files, and versions that an earlier pipeline makes."""

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: AtomicCatalog) -> None:
        """Look for every input.

        Raises:
            RunRefusedError: one is missing. It says where it comes from.
        """
        if run_params["only_missing_outputs"]:  # the nodes whose outputs don't fit alone, see ProvenanceHooks
            pipeline = Pipeline([node for node in pipeline.nodes if catalog.outdated.intersection(node.outputs)])
        absences = {name: absence(catalog.get(name)) for name in sorted(pipeline.inputs())}
        missing = {name: text for name, text in absences.items() if text}
        if missing:
            lines = [f"- {name}: {text}" for name, text in missing.items()]
            remedy = [*how_to_make(missing, "first", run_params["env"])]
            raise RunRefusedError(
                "\n".join(["What this run reads is not there. Nothing was written.", *lines, *remedy])
            )


def absence(dataset: Any) -> str | None:
    """Which file or version of a dataset is not there, and where it should be; None if there is nothing amiss."""
    path, remote = location(dataset), remote_versions(dataset)
    if not isinstance(dataset, AbstractVersionedDataset) or has_magic(path):
        return None
    try:
        version = dataset.resolve_load_version()
    except VersionNotFoundError:
        return f"no version in {path}"
    if version is not None:
        is_there = remote.has(version) if remote else version in dataset.list_versions(full_path=False)
        return None if is_there else f"no version {version} in {path}"
    if dataset.exists():
        return None
    return f"no file {path}; it is raw data, and its catalog file in conf/ says where to get it"
