"""The finetuning pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.finetuning import nodes
from reclora_kedro.pipelines.names import history_names, variant_histories
from reclora_kedro.pipelines.questions import prompts_pipeline


def create_pipeline(**kwargs: object) -> Pipeline:
    """Prompts of the rows that the LLM learns from, then the same training for every variant in its own namespace."""
    prompts = prompts_pipeline("learning", history_names())
    return sum((train_pipeline(variant, history) for variant, history in variant_histories().items()), start=prompts)


def train_pipeline(variant: str, history: str) -> Pipeline:
    """The training of one variant on the prompts of its history."""
    return Pipeline(
        [
            Node(
                nodes.train_adapter,
                inputs=[
                    "base_llm",
                    "prompts",
                    "learning_states",
                    "checkpoints",
                    "params:prompt",
                    "params:variant",
                    "params:engine",
                ],
                outputs=["training_log", "adapter"],  # the adapter last: checkpoints are removed when it is saved
                name="train_adapter",
                tags=["gpu"],
            )
        ],
        namespace=variant,
        inputs={
            "base_llm": "base_llm",
            "prompts": f"learning.{history}.prompts",
            "learning_states": "learning_states",
        },
        parameters={
            "params:prompt": "params:prompt",
            "params:engine": "params:engine",
            "params:variant": f"params:finetuning.variants.{variant}",
        },
    )
