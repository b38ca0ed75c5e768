"""The ranking pipeline."""

from kedro.pipeline import Pipeline

from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.questions import answers_pipeline
from reclora_kedro.pipelines.ranking import nodes
from reclora_kedro.pipelines.wiring import named, node, step


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Rank the test split's likes as they would be recommended and, if any, by a variant; compute metrics."""
    variant = names.optional_variant_of("ranking")
    names.require_ranking_baseline()
    lens = ["lens"] if names.lists_read_lens or names.parameters["ranking"]["lens"] else []
    of_variant = [] if variant is None else ["reranked_item_ranks"]
    measured = ["log", "params:ranking", "params:bootstrap", "item_ranks", *of_variant]
    ranking = step(
        "ranking",
        node(
            nodes.rank_items,
            named("log", "candidate_choice", *lens, *names.retriever)
            | {"config": "params:ranking", "recommendation": "params:recommendation"},
            ["item_ranks", "ranking_questions"],
        ),
        *(
            node(
                nodes.rerank_items,
                ["item_ranks", "ranking_scores", "candidate_choice", "params:ranking", "params:recommendation"],
                ranks,
            )
            for ranks in of_variant
        ),
        node(nodes.compute_ranking_metrics, measured, "ranking_metrics"),
        node(nodes.compute_beyond_accuracy, measured, "beyond_accuracy"),
        node(
            nodes.plot_ranking,
            ["ranking_metrics", "candidate_choice", "item_ranks", *of_variant],
            ["ranking_figure", "hit_rate_figure", "second_stage_figure"],
        ),
        node(
            nodes.write_ranking_report,
            named("beyond_accuracy", "candidate_choice", metrics="ranking_metrics")
            | {name: f"{name}_figure" for name in ("ranking", "hit_rate", "second_stage")},
            "ranking_report",
        ),
        node(nodes.show_ranking, ["ranking_metrics", "beyond_accuracy", "candidate_choice"], None),
    )
    return ranking if variant is None else ranking + answers_pipeline("ranking", names, variant)
