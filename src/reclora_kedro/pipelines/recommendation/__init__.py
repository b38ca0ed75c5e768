"""Recommend the best items to each user, in the way that validation likes choose."""

from collections.abc import Callable, Iterator
from functools import partial

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from reclora_kedro.pipelines.recommendation.pipeline import create_pipeline as create_pipeline
from reclora_kedro.recommendation.choice import validated_configs
from reclora_kedro.recommendation.delivery import require_table


def checks(pipeline: Pipeline, catalog: DataCatalog) -> Iterator[Callable[[], object]]:
    """Yield the checks of the settings of sources, whose blocks are read by their names, and of a table of items."""
    if "params:recommendation" in pipeline.inputs():
        config = catalog.load("params:recommendation")
        if config.candidates == "table" and "recommendation_candidates" in pipeline.inputs():
            yield partial(_require_table, catalog)
        names = {name for name in pipeline.inputs() if name.startswith("params:")}
        blocks = {name.removeprefix("params:"): catalog.load(name) for name in names}
        yield partial(validated_configs, config.sources, blocks)


def _require_table(catalog: DataCatalog) -> None:
    require_table(catalog.load("recommendation_candidates"))
