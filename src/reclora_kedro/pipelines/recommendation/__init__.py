"""Recommend the best items to each user, by the method that validation likes choose."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from kedro_provenance.datasets import location
from kedro_provenance.files.storage import is_remote
from reclora_kedro.pipelines.recommendation.pipeline import create_pipeline as create_pipeline
from reclora_kedro.recommendation.delivery import require_table


def checks(pipeline: Pipeline, catalog: DataCatalog) -> Iterator[Callable[[], object]]:
    """Yield the checks of a table of items, and of the place of the lists in plain text."""
    if "params:recommendation" in pipeline.inputs():
        config = catalog.load("params:recommendation")
        if config.candidates == "table" and "recommendation_candidates" in pipeline.inputs():
            yield partial(_require_table, catalog)
    if "recommendations_csv" in pipeline.all_outputs():
        yield partial(require_no_folder, location(catalog.get("recommendations_csv")))


def require_no_folder(path: str) -> None:
    """Raise ValueError if a folder is where the plain file of the recommendations goes, as of an earlier release."""
    if not is_remote(path) and Path(path).is_dir():
        raise ValueError(
            f"{path} is a folder with versions of an earlier release, but a plain file is saved there now: move the "
            "folder away."
        )


def _require_table(catalog: DataCatalog) -> None:
    require_table(catalog.load("recommendation_candidates"))
