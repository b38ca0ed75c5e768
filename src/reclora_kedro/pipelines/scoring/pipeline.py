"""The scoring pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.configured_names import variant_names
from reclora_kedro.pipelines.scoring.nodes import collect_scores, score_untrained, score_variant


def create_pipeline(**kwargs: object) -> Pipeline:
    """The test prompts by the untrained LLM and by every variant, joined with the lens's scores."""
    variants = variant_names()
    untrained = Node(
        score_untrained,
        inputs=["base_llm", "prompts", "params:prompt", "params:scoring"],
        outputs="untrained_scores",
        name="score_untrained",
        tags=["gpu"],
    )
    collect = Node(
        collect_scores,
        inputs={"prompt_rows": "prompt_rows", "lens": "lens_scores", "untrained": "untrained_scores"}
        | {variant: f"{variant}.scores" for variant in variants},
        outputs="scores",
        name="collect_scores",
    )
    return Pipeline([untrained, collect]) + sum((variant_pipeline(name) for name in variants), start=Pipeline([]))


def variant_pipeline(variant: str) -> Pipeline:
    """The scoring of one variant."""
    return Pipeline(
        [
            Node(
                score_variant,
                inputs=["base_llm", "adapter", "prompts", "lens_states", "params:prompt", "params:scoring"],
                outputs="scores",
                name="score_adapter",
                tags=["gpu"],
            )
        ],
        namespace=variant,
        inputs={"base_llm", "prompts", "lens_states"},
        parameters={"params:prompt", "params:scoring"},
    )
