"""The scoring pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.names import history_names, variant_histories
from reclora_kedro.pipelines.scoring import nodes


def create_pipeline(**kwargs: object) -> Pipeline:
    """The test rows by every variant, by the untrained LLM (first history), and by rivals that are no LLM."""
    histories = variant_histories()
    others = ("lens", "boosted_trees", "lens_probe", "two_towers", "untrained")
    shared = Pipeline(
        [
            Node(
                nodes.score_untrained,
                inputs=[
                    "base_llm",
                    f"{history_names()[0]}.prompts",
                    "untrained.finished_shards",
                    "params:prompt",
                    "params:scoring",
                    "params:engine",
                ],
                outputs="untrained_scores",
                name="score_untrained",
                tags=["gpu"],
            ),
            Node(
                nodes.score_boosted_trees,
                inputs=["lens", "log", "prompt_rows"],
                outputs="boosted_trees_scores",
                name="score_boosted_trees",
            ),
            Node(
                nodes.score_lens_probe,
                inputs=["lens_states", "few_shot_states", "prompt_rows"],
                outputs="lens_probe_scores",
                name="score_lens_probe",
            ),
            Node(
                nodes.score_two_towers,
                inputs=["log", "prompt_rows", "params:two_towers"],
                outputs="two_towers_scores",
                name="score_two_towers",
            ),
            Node(
                nodes.permute_lens_inputs,
                inputs=["lens", "log", "prompt_rows", "params:scoring"],
                outputs="lens_permuted_scores",
                name="permute_lens_inputs",
            ),
            Node(
                nodes.collect_scores,
                inputs={"prompt_rows": "prompt_rows", "log": "log"}
                | {name: f"{name}_scores" for name in others}
                | {variant: f"{variant}.scores" for variant in histories},
                outputs="scores",
                name="collect_scores",
            ),
        ],
        namespace="scoring",
        prefix_datasets_with_namespace=False,
    )
    return sum((variant_pipeline(variant, history) for variant, history in histories.items()), start=shared)


def variant_pipeline(variant: str, history: str) -> Pipeline:
    """The scoring of one variant on the prompts of its history."""
    return Pipeline(
        [
            Node(
                nodes.score_adapter,
                inputs=[
                    "base_llm",
                    "adapter",
                    "prompts",
                    "gate_inputs",
                    "finished_shards",
                    "params:prompt",
                    "params:scoring",
                    "params:engine",
                ],
                outputs=["scores", "permuted_scores"],
                name="score_adapter",
                tags=["gpu"],
            )
        ],
        namespace=variant,
        inputs={"base_llm": "base_llm", "prompts": f"{history}.prompts"},
        parameters={"params:prompt", "params:scoring", "params:engine"},
    )
