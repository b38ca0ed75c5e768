"""Recommend the best items to each user, in the way that validation likes choose."""

from collections.abc import Callable, Iterator
from functools import partial

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from reclora_kedro.pipelines.recommendation.pipeline import create_pipeline as create_pipeline
from reclora_kedro.recommendation.choice import validated_configs


def checks(pipeline: Pipeline, catalog: DataCatalog) -> Iterator[Callable[[], object]]:
    """Yield the checks of the settings of sources, whose blocks are read by their names."""
    if "params:recommendation" in pipeline.inputs():
        sources = catalog.load("params:recommendation").sources
        names = {name for name in pipeline.inputs() if name.startswith("params:")}
        blocks = {name.removeprefix("params:"): catalog.load(name) for name in names}
        yield partial(validated_configs, sources, blocks)
