"""The recommendation pipeline."""

from kedro.pipeline import Pipeline

from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.questions import answers_pipeline
from reclora_kedro.pipelines.recommendation import nodes
from reclora_kedro.pipelines.wiring import named, node, step


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Choose how items are found, and make the best items of each user, by one variant's adapter if named."""
    variant = names.optional_variant_of("recommendation")
    learned = [*(["lens"] if names.lists_read_lens else []), *names.retriever]
    settings = {"config": "params:recommendation", "engine": "params:engine"}
    compares = variant is not None and names.parameters["recommendation"]["diversity"]
    recommendation = step(
        "recommendation",
        node(
            nodes.choose_method,
            named("log", "candidate_choice_before", *learned, bootstrap="params:bootstrap", **settings)
            | names.source_settings,
            ["candidate_choice", "candidate_metrics"],
        ),
        node(
            nodes.shortlist_candidates,
            named("log", "recommendation_candidates", "candidate_choice", *learned, **settings),
            ["shortlist", "recommendation_questions", "shortlist_report", "learned_weights"],
        ),
        node(
            nodes.recommend,
            named("shortlist", *(["log"] if compares else []), config="params:recommendation")
            | ({} if variant is None else {"scores": "recommendation_scores"}),
            ["recommendations", "recommendations_csv", "recommendation_report"],
        ),
        node(
            nodes.show_recommendations,
            ["recommendations", "candidate_metrics", "candidate_choice", "shortlist_report"],
            None,
        ),
    )
    return recommendation if variant is None else recommendation + answers_pipeline("recommendation", names, variant)
