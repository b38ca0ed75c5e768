"""The finetuning pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.configured_names import history_names, variant_histories
from reclora_kedro.pipelines.finetuning.nodes import build_prompts, train_variant


def create_pipeline(**kwargs: object) -> Pipeline:
    """Prompts of every short history, then the same training for every variant; each in a namespace of its own."""
    prompts = (prompts_pipeline(history) for history in history_names())
    training = (train_pipeline(variant, history) for variant, history in variant_histories().items())
    return sum((*prompts, *training), start=Pipeline([]))


def prompts_pipeline(history: str) -> Pipeline:
    """The prompts that show one short history."""
    return Pipeline(
        [
            Node(
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
        ],
        namespace=history,
        inputs={"base_llm", "prompt_template", "prompt_rows", "samples", "sequences", "items", "users"},
        parameters={"params:prompt"},
    )


def train_pipeline(variant: str, history: str) -> Pipeline:
    """The training of one variant on the prompts of its history."""
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
        inputs={"base_llm": "base_llm", "prompts": f"{history}.prompts", "lens_states": "lens_states"},
        parameters={"params:prompt": "params:prompt", "params:variant": f"params:finetuning.variants.{variant}"},
    )
