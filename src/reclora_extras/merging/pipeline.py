"""Merge several LoRAs into one, and measure each method on new users; on request."""

from kedro.pipeline import Node, Pipeline

from kedro_provenance.errors import Fault, NameRefusedError, Parameter
from reclora_extras.merging import nodes
from reclora_extras.merging.checks import checks
from reclora_extras.merging.config import BASELINES, ITERIS
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.questions import prompts_pipeline

__all__ = ["checks", "create_pipeline"]

NEEDS_LLM = True
VARIANTS, MERGED = Parameter("finetuning.variants"), Parameter("merging.variants")


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Merge variants' adapters or users' exported LoRAs by several methods, and score them."""
    variants = merged_variants(names)
    history = names.variants[variants[0] if variants else names.variant_of("export")]
    shared = {
        "base_llm": "base_llm",
        "prompts": f"merging.{history}.prompts",
        "config": "params:merging",
        "scoring": "params:scoring",
    }
    of_users = {"user_adapters": "user_adapters", "log": "log"}
    steps = Pipeline(
        [
            Node(
                nodes.draw_calibration if variants else nodes.draw_calibration_of_users,
                inputs=["log", "params:merging", *([] if variants else ["params:export"])],
                outputs="merging_questions",
                name="draw_calibration",
            ),
            Node(
                nodes.merge_variants if variants else nodes.merge_users,
                inputs=shared | ({variant: f"{variant}.adapter" for variant in variants} or of_users),
                outputs=["merged_loras", "merging_log"],
                name="merge_loras",
                tags=["gpu"],
            ),
            Node(
                nodes.choose_merged,
                inputs=["base_llm", "merged_loras", "params:merging"],
                outputs="merged.adapter",
                name="choose_merged",
                tags=["gpu"],
            ),
        ],
        namespace="merging",
        prefix_datasets_with_namespace=False,
    )
    measure = Pipeline(
        [
            Node(
                nodes.score_merged,
                inputs=[
                    "base_llm",
                    "merged_loras",
                    f"test.{history}.prompts",
                    "log",
                    "scores",
                    "params:merging",
                    "params:prompt",
                    "params:scoring",
                    "params:bootstrap",
                ],
                outputs=["merging_scores", "merging_report"],
                name="score_merged",
                tags=["gpu"],
            ),
            Node(nodes.show_merging, inputs="merging_report", outputs=None, name="show_merging"),
        ],
        namespace="merging_scores",  # of its own: it reads scores, and merging makes a model
        prefix_datasets_with_namespace=False,
    )
    return prompts_pipeline("merging", names, [history]) + steps + measure


def merged_variants(names: PipelineNames) -> tuple[str, ...]:
    """Return the variants to merge, ``merging.variants``; none if users' LoRAs are merged.

    Raises:
        NameRefusedError: one is named twice, is made by merging or is none of ``finetuning.variants``, or they show
            different histories; or a variant has the name of a way of merging.
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
