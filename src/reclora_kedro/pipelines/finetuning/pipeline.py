"""The finetuning pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.finetuning import nodes
from reclora_kedro.pipelines.names import history_names, variant_histories


def create_pipeline(**kwargs: object) -> Pipeline:
    """Prompts of every short history, then the same training for every variant, each in a namespace of its own."""
    prompts = Pipeline(
        [
            Node(
                nodes.build_prompts,
                inputs=[
                    "base_llm",
                    "prompt_templates",
                    "prompt_rows",
                    "log",
                    f"{history}.short_history",
                    "params:prompt",
                ],
                outputs=[f"{history}.prompts", f"{history}.prompt_report"],
                name=f"build_{history}_prompts",
            )
            for history in history_names()
        ],
        namespace="prompts",
        prefix_datasets_with_namespace=False,
    )
    return sum((train_pipeline(variant, history) for variant, history in variant_histories().items()), start=prompts)


def train_pipeline(variant: str, history: str) -> Pipeline:
    """The training of one variant on the prompts of its history."""
    shared = {name: name for name in ("base_llm", "lens_states", "few_shot_states")}
    return Pipeline(
        [
            Node(
                nodes.select_gate_inputs,
                inputs=["lens_states", "few_shot_states", "params:variant"],
                outputs="gate_inputs",
                name="select_gate_inputs",
            ),
            Node(
                nodes.train_adapter,
                inputs=[
                    "base_llm",
                    "prompts",
                    "gate_inputs",
                    "checkpoints",
                    "params:prompt",
                    "params:variant",
                    "params:engine",
                ],
                outputs=["training_log", "adapter"],  # the adapter last: checkpoints are removed when it is saved
                name="train_adapter",
                tags=["gpu"],
            ),
        ],
        namespace=variant,
        inputs=shared | {"prompts": f"{history}.prompts"},
        parameters={
            "params:prompt": "params:prompt",
            "params:engine": "params:engine",
            "params:variant": f"params:finetuning.variants.{variant}",
        },
    )
