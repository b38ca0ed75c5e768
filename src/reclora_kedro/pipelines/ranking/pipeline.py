"""The ranking pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.questions import answers_pipeline
from reclora_kedro.pipelines.ranking import nodes


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Rank the test split's likes as they would be recommended and, if any, by a variant; compute metrics."""
    variant = names.optional_variant_of("ranking")
    names.require_ranking_baseline()
    reads_lens = names.lists_read_lens or names.parameters["ranking"]["lens"]
    lens = {"lens": "lens"} if reads_lens else {}
    retriever = {"retriever": "retriever"} if names.recommendation_reads_retriever else {}
    of_variant = [] if variant is None else ["reranked_item_ranks"]
    ranking = Pipeline(
        [
            Node(
                nodes.rank_items,
                inputs={
                    "log": "log",
                    "candidate_choice": "candidate_choice",
                    "config": "params:ranking",
                    "recommendation": "params:recommendation",
                    **lens,
                    **retriever,
                },
                outputs=["item_ranks", "ranking_questions"],
                name="rank_items",
            ),
            *(
                Node(
                    nodes.rerank_items,
                    inputs=[
                        "item_ranks",
                        "ranking_scores",
                        "candidate_choice",
                        "params:ranking",
                        "params:recommendation",
                    ],
                    outputs=ranks,
                    name="rerank_items",
                )
                for ranks in of_variant
            ),
            Node(
                nodes.compute_ranking_metrics,
                inputs=["log", "params:ranking", "params:bootstrap", "item_ranks", *of_variant],
                outputs="ranking_metrics",
                name="compute_ranking_metrics",
            ),
            Node(
                nodes.compute_beyond_accuracy,
                inputs=["log", "params:ranking", "params:bootstrap", "item_ranks", *of_variant],
                outputs="beyond_accuracy",
                name="compute_beyond_accuracy",
            ),
            Node(
                nodes.plot_ranking,
                inputs=["ranking_metrics", "candidate_choice"],
                outputs="ranking_figure",
                name="plot_ranking",
            ),
            Node(
                nodes.plot_hit_rates,
                inputs=["candidate_choice", "item_ranks", *of_variant],
                outputs="hit_rate_figure",
                name="plot_hit_rates",
            ),
            Node(
                nodes.plot_second_stage,
                inputs="candidate_choice",
                outputs="second_stage_figure",
                name="plot_second_stage",
            ),
            Node(
                nodes.write_ranking_report,
                inputs={
                    "metrics": "ranking_metrics",
                    "beyond_accuracy": "beyond_accuracy",
                    "candidate_choice": "candidate_choice",
                    **{name: f"{name}_figure" for name in ("ranking", "hit_rate", "second_stage")},
                },
                outputs="ranking_report",
                name="write_ranking_report",
            ),
            Node(
                nodes.show_ranking,
                inputs=["ranking_metrics", "beyond_accuracy", "candidate_choice"],
                outputs=None,
                name="show_ranking",
            ),
        ],
        namespace="ranking",
        prefix_datasets_with_namespace=False,
    )
    return ranking if variant is None else ranking + answers_pipeline("ranking", names, variant)
