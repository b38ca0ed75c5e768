"""The recommendation pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.questions import answers_pipeline
from reclora_kedro.pipelines.recommendation import nodes


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Choose how items are found, and make the best items of each user, by one variant's adapter if named."""
    variant = names.optional_variant_of("recommendation")
    lens = {"lens": "lens"} if names.lists_read_lens else {}
    retriever = {"retriever": "retriever"} if names.recommendation_reads_retriever else {}
    compares = variant is not None and names.parameters["recommendation"]["diversity"]
    recommendation = Pipeline(
        [
            Node(
                nodes.choose_method,
                inputs={
                    "log": "log",
                    "config": "params:recommendation",
                    "bootstrap": "params:bootstrap",
                    "candidate_choice_before": "candidate_choice_before",
                    "engine": "params:engine",
                    **lens,
                    **retriever,
                    **names.source_settings,
                },
                outputs=["candidate_choice", "candidate_metrics"],
                name="choose_method",
            ),
            Node(
                nodes.shortlist_candidates,
                inputs={
                    "log": "log",
                    "recommendation_candidates": "recommendation_candidates",
                    "candidate_choice": "candidate_choice",
                    "config": "params:recommendation",
                    "engine": "params:engine",
                    **lens,
                    **retriever,
                },
                outputs=["shortlist", "recommendation_questions", "shortlist_report", "learned_weights"],
                name="shortlist_candidates",
            ),
            Node(
                nodes.recommend,
                inputs={
                    "shortlist": "shortlist",
                    "config": "params:recommendation",
                    **({} if variant is None else {"scores": "recommendation_scores"}),
                    **({"log": "log"} if compares else {}),
                },
                outputs=["recommendations", "recommendations_csv", "recommendation_report"],
                name="recommend",
            ),
            Node(
                nodes.show_recommendations,
                inputs=["recommendations", "candidate_metrics", "candidate_choice", "shortlist_report"],
                outputs=None,
                name="show_recommendations",
            ),
        ],
        namespace="recommendation",
        prefix_datasets_with_namespace=False,
    )
    return recommendation if variant is None else recommendation + answers_pipeline("recommendation", names, variant)
