"""The recommendation pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.configured_names import ranking_variant, variant_names
from reclora_kedro.pipelines.recommendation.nodes import (
    rank_candidates,
    shortlist_candidates,
    show_recommendations,
)

TABLES = ("sequences", "item_embeddings", "items", "users", "lens_config", "lens_weights")


def create_pipeline(**kwargs: object) -> Pipeline:
    """From the lens and one variant's adapter to a shortlist and the ranking of each user's items."""
    tables = {name: name for name in TABLES}
    shortlist = Node(
        shortlist_candidates,
        inputs=tables | {"recommendation_candidates": "recommendation_candidates", "config": "params:recommendation"},
        outputs=["shortlist", "shortlist_report"],
        name="shortlist_candidates",
    )
    variant = ranking_variant()
    if variant not in variant_names():  # no adapter to wait for: shortlist_candidates refuses the variant by name
        return Pipeline([shortlist])
    rank = Node(
        rank_candidates,
        inputs=tables
        | {
            "base_llm": "base_llm",
            "adapter": f"{variant}.adapter",
            "prompt_template": "prompt_template",
            "shortlist": "shortlist",
            "shortlist_report": "shortlist_report",
            "history": "params:history",
            "prompt_config": "params:prompt",
            "scoring": "params:scoring",
            "config": "params:recommendation",
        },
        outputs=["recommendations", "recommendation_report", "recommendations_preview"],
        name="rank_candidates",
        tags=["gpu"],
    )
    show = Node(
        show_recommendations,
        inputs=["recommendations", "recommendation_report"],
        outputs=None,
        name="show_recommendations",
    )
    return Pipeline([shortlist, rank, show])
