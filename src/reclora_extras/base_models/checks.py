"""Checks before a base LLM is prepared."""

from collections.abc import Callable, Iterator
from typing import Any

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline


def checks(pipeline: Pipeline, catalog: DataCatalog) -> Iterator[Callable[[], object]]:
    """Yield checks of the steps, without loading the base LLM's weights, and of the texts of a stored log."""
    if {"base_llm", "params:base_model"} <= pipeline.inputs():
        from reclora_extras.base_models.preparing import require_steps

        base_llm: Any = catalog.get("base_llm")
        if hasattr(base_llm, "outline"):
            yield lambda: require_steps(base_llm.outline(), catalog.load("params:base_model"))
    if {"log_without_embeddings", "params:base_model"} <= pipeline.inputs():
        from reclora_extras.base_models.corpus import held_out_items, require_sources

        corpus = catalog.load("params:base_model").corpus
        yield lambda: held_out_items(catalog.load("log_without_embeddings"), corpus)
        yield lambda: require_sources(corpus, catalog.load("further_texts"))
