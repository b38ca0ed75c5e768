"""The ranking pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.questions import answers_pipeline
from reclora_kedro.pipelines.ranking import nodes


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Rank the test split's likes by models without an LLM and, if any, by a variant; compute metrics."""
    variant = names.optional_variant_of("ranking")
    models = [model for model in ("lens", "retriever") if names.parameters["ranking"][model]]
    of_variant = [] if variant is None else ["reranked_item_ranks"]
    baselines = "params:ranking.baselines"
    ranking = Pipeline(
        [
            Node(
                nodes.rank_items,
                inputs={
                    "log": "log",
                    "config": "params:ranking",
                    "neighbours": "params:item_neighbours",
                    "linear": "params:linear",
                    "popularity": "params:popularity",
                    **{model: model for model in models},
                },
                outputs=["item_ranks", "ranking_questions", "second_stage"],
                name="rank_items",
            ),
            *(
                Node(
                    nodes.rerank_items,
                    inputs=["item_ranks", "ranking_scores", "params:ranking"],
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
                inputs=["ranking_metrics", baselines],
                outputs="ranking_figure",
                name="plot_ranking",
            ),
            Node(
                nodes.plot_hit_rates,
                inputs=[baselines, "item_ranks", *of_variant],
                outputs="hit_rate_figure",
                name="plot_hit_rates",
            ),
            Node(
                nodes.plot_second_stage,
                inputs="second_stage",
                outputs="second_stage_figure",
                name="plot_second_stage",
            ),
            Node(
                nodes.write_ranking_report,
                inputs={
                    "metrics": "ranking_metrics",
                    "beyond_accuracy": "beyond_accuracy",
                    "baselines": baselines,
                    **{name: f"{name}_figure" for name in ("ranking", "hit_rate", "second_stage")},
                },
                outputs="ranking_report",
                name="write_ranking_report",
            ),
            Node(
                nodes.show_ranking,
                inputs=["ranking_metrics", "beyond_accuracy", baselines],
                outputs=None,
                name="show_ranking",
            ),
        ],
        namespace="ranking",
        prefix_datasets_with_namespace=False,
    )
    return ranking if variant is None else ranking + answers_pipeline("ranking", names, variant)
