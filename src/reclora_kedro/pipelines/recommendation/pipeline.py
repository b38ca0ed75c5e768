"""The recommendation pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.names import optional_variant_of
from reclora_kedro.pipelines.recommendation import nodes


def create_pipeline(**kwargs: object) -> Pipeline:
    """From the lens, and one variant's adapter if any, to a shortlist and the ranking of each user's items."""
    variant = optional_variant_of("recommendation")
    return Pipeline(
        [
            Node(
                nodes.shortlist_candidates,
                inputs=[
                    "lens",
                    "log",
                    "recommendation_candidates",
                    "params:recommendation",
                    "params:item_neighbours",
                    "params:engine",
                ],
                outputs=["shortlist", "shortlist_report"],
                name="shortlist_candidates",
            ),
            *([_ranking_by_lens()] if variant is None else _ranking_by(variant)),
            Node(
                nodes.show_recommendations,
                inputs=["recommendations", "shortlist_report", "recommendation_report"],
                outputs=None,
                name="show_recommendations",
            ),
        ],
        namespace="recommendation",
        prefix_datasets_with_namespace=False,
    )


def _ranking_by_lens() -> Node:
    return Node(
        nodes.rank_by_lens,
        inputs=["shortlist", "params:recommendation"],
        outputs=["recommendations", "recommendation_report"],
        name="rank_by_lens",
    )


def _ranking_by(variant: str) -> list[Node]:
    """From the shortlist to its ranking by the LLM with a variant's adapter."""
    settings = f"params:finetuning.variants.{variant}"
    return [
        Node(
            nodes.assemble_candidate_histories,
            inputs=["log", "shortlist", "params:history", settings],
            outputs="candidate_histories",
            name="assemble_candidate_histories",
        ),
        Node(
            nodes.build_candidate_prompts,
            inputs=["base_llm", "prompt_templates", "log", "shortlist", "candidate_histories", "params:prompt"],
            outputs="candidate_prompts",
            name="build_candidate_prompts",
        ),
        Node(
            nodes.compute_candidate_gate_inputs,
            inputs=["lens", "log", "shortlist", settings],
            outputs="candidate_gate_inputs",
            name="compute_candidate_gate_inputs",
        ),
        Node(
            nodes.rank_candidates,
            inputs=[
                "base_llm",
                f"{variant}.adapter",
                "shortlist",
                "candidate_prompts",
                "candidate_gate_inputs",
                "params:prompt",
                settings,
                "params:recommendation",
                "params:engine",
            ],
            outputs=["recommendations", "recommendation_report"],
            name="rank_candidates",
            tags=["gpu"],
        ),
    ]
