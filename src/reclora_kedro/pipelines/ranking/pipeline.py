"""The ranking pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.names import optional_variant_of
from reclora_kedro.pipelines.ranking import nodes


def create_pipeline(**kwargs: object) -> Pipeline:
    """Where models without an LLM and, unless there is none, a variant rank the test split's likes, and its metrics."""
    variant = optional_variant_of("ranking")
    of_variant = [] if variant is None else ["reranked_item_ranks"]
    return Pipeline(
        [
            Node(
                nodes.rank_items,
                inputs=["lens", "log", "params:ranking", "params:item_neighbours"],
                outputs="item_ranks",
                name="rank_items",
            ),
            *([] if variant is None else _reranking(variant)),
            Node(
                nodes.compute_ranking_metrics,
                inputs=["log", "params:ranking", "params:bootstrap", "item_ranks", *of_variant],
                outputs="ranking_metrics",
                name="compute_ranking_metrics",
            ),
            Node(
                nodes.plot_ranking,
                inputs="ranking_metrics",
                outputs="ranking_figure",
                name="plot_ranking",
            ),
            Node(nodes.show_ranking, inputs="ranking_metrics", outputs=None, name="show_ranking"),
        ],
        namespace="ranking",
        prefix_datasets_with_namespace=False,
    )


def _reranking(variant: str) -> list[Node]:
    """From the item neighbours' ranks to those of a variant that ranks their shortlists anew."""
    settings = f"params:finetuning.variants.{variant}"
    return [
        Node(
            nodes.assemble_reranking_histories,
            inputs=["log", "item_ranks", "params:history", settings, "params:ranking"],
            outputs="reranking_histories",
            name="assemble_reranking_histories",
        ),
        Node(
            nodes.build_reranking_prompts,
            inputs=[
                "base_llm",
                "prompt_templates",
                "log",
                "item_ranks",
                "reranking_histories",
                "params:prompt",
                "params:ranking",
            ],
            outputs="reranking_prompts",
            name="build_reranking_prompts",
        ),
        Node(
            nodes.compute_reranking_gate_inputs,
            inputs=["lens", "log", "item_ranks", settings, "params:ranking"],
            outputs="reranking_gate_inputs",
            name="compute_reranking_gate_inputs",
        ),
        Node(
            nodes.rerank_items,
            inputs=[
                "base_llm",
                f"{variant}.adapter",
                "item_ranks",
                "reranking_prompts",
                "reranking_gate_inputs",
                "params:prompt",
                settings,
                "params:ranking",
                "params:engine",
            ],
            outputs="reranked_item_ranks",
            name="rerank_items",
            tags=["gpu"],
        ),
    ]
