"""The recommendation pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.questions import answers_pipeline
from reclora_kedro.pipelines.recommendation import nodes


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Make a shortlist and the best items of each user from the lens and, if any, one variant's adapter."""
    variant = names.optional_variant_of("recommendation")
    retriever = ["retriever"] if names.recommendation_reads_retriever else []
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
                    "params:linear",
                    "params:popularity",
                    "params:bootstrap",
                    "params:engine",
                    *retriever,
                ],
                outputs=[
                    "shortlist",
                    "recommendation_questions",
                    "candidate_choice",
                    "candidate_metrics",
                    "shortlist_report",
                ],
                name="shortlist_candidates",
            ),
            Node(
                nodes.recommend,
                inputs={
                    "shortlist": "shortlist",
                    "config": "params:recommendation",
                    **({} if variant is None else {"scores": "recommendation_scores"}),
                    **({"log": "log"} if names.parameters["recommendation"]["diversity"] else {}),
                },
                outputs=["recommendations", "recommendations_csv", "recommendation_report"],
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
    return recommendation if variant is None else recommendation + answers_pipeline("recommendation", names, variant)
