"""The recommendation pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.names import optional_variant_of, retriever_read, variant_histories
from reclora_kedro.pipelines.questions import answers_pipeline
from reclora_kedro.pipelines.recommendation import nodes


def create_pipeline(**kwargs: object) -> Pipeline:
    """From the lens, and one variant's adapter if any, to a shortlist and the best items of each user."""
    variant = optional_variant_of("recommendation")
    recommendation = Pipeline(
        [
            Node(
                nodes.shortlist_candidates,
                inputs=[
                    "lens",
                    "log",
                    "recommendation_candidates",
                    "params:recommendation",
                    "params:item_neighbours",
                    "params:bootstrap",
                    "params:engine",
                    *retriever_read(),
                ],
                outputs=["shortlist", "recommendation_questions", "candidate_metrics", "shortlist_report"],
                name="shortlist_candidates",
            ),
            Node(
                nodes.recommend,
                inputs=["shortlist", "params:recommendation", *([] if variant is None else ["recommendation_scores"])],
                outputs=["recommendations", "recommendation_report"],
                name="recommend",
            ),
            Node(
                nodes.show_recommendations,
                inputs=["recommendations", "candidate_metrics", "shortlist_report", "recommendation_report"],
                outputs=None,
                name="show_recommendations",
            ),
        ],
        namespace="recommendation",
        prefix_datasets_with_namespace=False,
    )
    if variant is None:
        return recommendation
    return recommendation + answers_pipeline("recommendation", variant, variant_histories()[variant])
