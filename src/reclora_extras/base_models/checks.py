"""What is tried before a base LLM is prepared."""

from collections.abc import Callable, Iterator
from typing import Any

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from reclora_extras.base_models.steps import require_steps


def checks(pipeline: Pipeline, catalog: DataCatalog) -> Iterator[Callable[[], object]]:
    """Yield a check of the steps, for which the base LLM's weights are not loaded."""
    if {"base_llm", "params:base_model"} <= pipeline.inputs():
        base_llm: Any = catalog.get("base_llm")
        if hasattr(base_llm, "outline"):
            yield lambda: require_steps(base_llm.outline(), catalog.load("params:base_model"))
