"""The finetuning pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.configured_names import variant_names
from reclora_kedro.pipelines.finetuning.nodes import build_prompts, train_variant


def create_pipeline(**kwargs: object) -> Pipeline:
    """Prompts once, then the same training for every variant, each in a namespace of its own."""
    prompts = Node(
        build_prompts,
        inputs=[
            "base_llm",
            "prompt_template",
            "prompt_rows",
            "samples",
            "sequences",
            "short_history",
            "items",
            "users",
            "params:prompt",
        ],
        outputs=["prompts", "prompt_report"],
        name="build_prompts",
    )
    return Pipeline([prompts]) + sum((train_pipeline(name) for name in variant_names()), start=Pipeline([]))


def train_pipeline(variant: str) -> Pipeline:
    """The training of one variant."""
    return Pipeline(
        [
            Node(
                train_variant,
                inputs=["base_llm", "prompts", "lens_states", "checkpoints", "params:prompt", "params:variant"],
                outputs=["training_log", "adapter"],  # the adapter last: when it is saved, checkpoints are let go of
                name="train_adapter",
                tags=["gpu"],
            )
        ],
        namespace=variant,
        inputs={"base_llm", "prompts", "lens_states"},
        parameters={"params:prompt": "params:prompt", "params:variant": f"params:finetuning.variants.{variant}"},
    )
