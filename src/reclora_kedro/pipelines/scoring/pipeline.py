"""The scoring pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.baselines.registry import BASELINES, inputs
from reclora_kedro.evaluation.scores import collect_scores
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.questions import prompts_pipeline
from reclora_kedro.pipelines.scoring import nodes


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Score the test rows by every variant, the untrained LLM (first history) and the baselines without an LLM."""
    prompts = prompts_pipeline("test", names, names.short_histories)
    others, read_untrained = ("lens", *names.baselines, "untrained"), f"test.{names.short_histories[0]}.prompts"
    shared = Pipeline(
        [
            Node(
                nodes.score_untrained,
                inputs=[
                    "base_llm",
                    read_untrained,
                    "untrained.finished_shards",
                    "params:prompt",
                    "params:scoring",
                    "params:engine",
                ],
                outputs="untrained_scores",
                name="score_untrained",
                tags=["gpu"],
            ),
            *(
                Node(
                    BASELINES.load(name).scores,
                    inputs=inputs(name, read_untrained),
                    outputs=f"{name}_scores",
                    name=f"score_{name}",
                    tags=["evaluation"],
                )
                for name in names.baselines
            ),
            Node(
                nodes.permute_lens_inputs,
                inputs=["lens", "log", "test_questions", "params:scoring"],
                outputs="lens_permuted_scores",
                name="permute_lens_inputs",
                tags=["evaluation"],
            ),
            Node(
                collect_scores,
                inputs={"test_questions": "test_questions"}
                | {name: f"{name}_scores" for name in others}
                | {variant: f"{variant}.scores" for variant in names.variants},
                outputs="scores",
                name="collect_scores",
            ),
        ],
        namespace="scoring",
        prefix_datasets_with_namespace=False,
    )
    return sum((variant_pipeline(*variant) for variant in names.variants.items()), start=prompts + shared)


def variant_pipeline(variant: str, history: str) -> Pipeline:
    return Pipeline(
        [
            Node(
                nodes.score_adapter,
                inputs=[
                    "base_llm",
                    "adapter",
                    "prompts",
                    "test_states",
                    "finished_shards",
                    "params:prompt",
                    "params:variant",
                    "params:scoring",
                    "params:engine",
                ],
                outputs=["scores", "permuted_scores"],
                name="score_adapter",
                tags=["gpu"],
            )
        ],
        namespace=variant,
        inputs={"base_llm": "base_llm", "prompts": f"test.{history}.prompts", "test_states": "test_states"},
        parameters={
            **{name: name for name in ("params:prompt", "params:scoring", "params:engine")},
            "params:variant": f"params:finetuning.variants.{variant}",
        },
    )
