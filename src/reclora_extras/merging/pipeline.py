"""Merge several LoRAs into one, and measure each method on new users; on request."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from kedro_provenance.errors import Fault, NameRefusedError, Parameter
from reclora_extras.merging import nodes
from reclora_extras.merging.config import BASELINES, ITERIS, MergingConfig
from reclora_kedro.adapters.registry import adapter_method
from reclora_kedro.evaluation.report import models_table
from reclora_kedro.finetuning.config import VariantConfig
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.questions import prompts_pipeline
from reclora_kedro.pipelines.wiring import named, node, params, shown, step

NEEDS_LLM = True
VARIANTS, MERGED = Parameter("finetuning.variants"), Parameter("merging.variants")


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Merge variants' adapters or users' exported LoRAs by several methods, and score them."""
    variants = merged_variants(names)
    history = names.variants[variants[0] if variants else names.variant_of("export")]
    shared = named("base_llm", prompts=f"merging.{history}.prompts", config="params:merging", scoring="params:scoring")
    of_users = named("user_adapters", "log")
    steps = step(
        "merging",
        node(
            nodes.draw_calibration if variants else nodes.draw_calibration_of_users,
            ["log", "params:merging", *([] if variants else ["params:export"])],
            "merging_questions",
            name="draw_calibration",
        ),
        node(
            nodes.merge_variants if variants else nodes.merge_users,
            shared | ({variant: f"{variant}.adapter" for variant in variants} or of_users),
            ["merged_loras", "merging_log"],
            name="merge_loras",
            tags=["gpu"],
        ),
        node(nodes.choose_merged, ["base_llm", "merged_loras", "params:merging"], "merged.adapter", tags=["gpu"]),
    )
    read = ["base_llm", "merged_loras", f"test.{history}.prompts", "log", "scores"]
    measure = step(
        "merging_scores",  # of its own: it reads scores, and merging makes a model
        node(
            nodes.score_merged,
            read + params("merging", "prompt", "scoring", "bootstrap"),
            ["merging_scores", "merging_report"],
            tags=["gpu"],
        ),
        shown("show_merging", models_table, "merging_report"),
    )
    return prompts_pipeline("merging", names, [history]) + steps + measure


def merged_variants(names: PipelineNames) -> tuple[str, ...]:
    """Return the variants to merge, ``merging.variants``; none if users' LoRAs are merged.

    NameRefusedError is raised if one is named twice, is made by merging or is none of ``finetuning.variants``, if they
    show different histories, or if a variant has the name of a way of merging.
    """
    given = names.parameters["merging"]["variants"]
    variants = tuple(map(str, given)) if isinstance(given, list | tuple) else ()
    if reserved := [variant for variant in names.variants if variant in (ITERIS, *BASELINES)]:
        raise NameRefusedError(Fault(VARIANTS, f"names {reserved[0]!r}, which is a way of merging", advice="Rename it"))
    if len({*variants, "merged"}) <= len(variants):
        found = f"is {', '.join(variants)}"
        raise NameRefusedError(Fault(MERGED, found, advice="Name each once, and not merged, which it makes"))
    if unknown := [variant for variant in variants if variant not in names.variants]:
        found, expected = f"names {', '.join(map(repr, unknown))}", (VARIANTS, f" names {', '.join(names.variants)}")
        raise NameRefusedError(Fault(MERGED, found, expected, "Choose some of these"))
    if len({names.variants[variant] for variant in variants}) > 1:
        shown = ", ".join(names.variants[variant] for variant in variants)
        found = f"names {', '.join(variants)}, whose prompts show different histories, {shown}"
        raise NameRefusedError(Fault(MERGED, found, advice="Merge variants of one history"))
    return variants


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
