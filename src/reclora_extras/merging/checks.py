"""Checks before LoRAs are merged."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from reclora_extras.merging.config import MergingConfig
from reclora_kedro.adapters.registry import adapter_method
from reclora_kedro.finetuning.variants import VariantConfig


def checks(pipeline: Pipeline, catalog: DataCatalog) -> Iterator[Callable[[], object]]:
    """Yield a check of the settings of the variants to merge."""
    if "merged_loras" in pipeline.all_outputs():
        named = MergingConfig.model_validate(catalog.load("params:merging")).variants or ()
        settings = {name: catalog.load(f"params:finetuning.variants.{name}") for name in named}
        yield partial(
            require_alike, {name: VariantConfig.model_validate(block).adapter for name, block in settings.items()}
        )


def require_alike(adapters: Mapping[str, Any]) -> None:
    """Raise ValueError if adapters, settings by variant, are not LoRAs of one rank on the same layers."""
    for name, adapter in adapters.items():
        first_name, first = next(iter(adapters.items()))
        if adapter_method(adapter.method).has_gates(adapter):
            raise ValueError(
                f"merging.variants names {name!r}, whose adapter differs from sample to sample, so it is not one LoRA: "
                "name a variant with num_meta_loras 1, or null to merge the LoRAs of users."
            )
        if (adapter.r, adapter.target_modules) != (first.r, first.target_modules):
            raise ValueError(
                f"merging.variants names {first_name!r}, of rank {first.r} on {first.target_modules}, and {name!r}, of "
                f"rank {adapter.r} on {adapter.target_modules}: merge LoRAs of one rank on the same layers."
            )
