"""The update pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.names import TUNED_ENCODER, PipelineNames
from reclora_kedro.pipelines.question_nodes import compute_gate_inputs
from reclora_kedro.pipelines.questions import prompts_pipeline
from reclora_kedro.pipelines.update import nodes


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Make the next model from new raw tables, the newest canonical tables and the current model."""
    variant = names.optional_variant_of("update")
    retriever = ["retriever"] if names.parameters["update"]["retriever"] else []
    decided = ["adapter_promotion_report"] if variant else []
    # New items are read by what read those that the lens knows, however often the encoder was tuned since.
    encoders = [f"champion.{name}" if name == TUNED_ENCODER else name for name in names.item_encoders]
    retrievers = [
        Node(nodes.grow_retriever, inputs=[f"champion.{name}", "log"], outputs=name, name="grow_retriever")
        for name in retriever
    ]
    update = Pipeline(
        [
            Node(
                nodes.clean_new_interactions,
                inputs=[
                    "previous.interactions",
                    "raw_new_interactions",
                    "journal",
                    "users_to_drop",
                    "previous.items",
                    "raw_new_items",
                    "raw_new_item_texts",
                    "params:ingestion",
                    "params:engine",
                ],
                outputs=["new_interactions", "new_interactions_report"],
                name="clean_new_interactions",
            ),
            Node(
                nodes.append_interactions,
                inputs=[
                    "new_interactions",
                    "previous.interactions",
                    "withheld_interactions",
                    "champion.log",
                    "champion.lens",
                    "first.log",
                    "first.lens",
                    "params:ingestion",
                    "params:history",
                    "params:update.examination",
                    "params:update.accept",
                    "params:update.reject",
                ],
                outputs=["interactions", "quarantined_interactions", "examination_report"],
                name="append_interactions",
            ),
            Node(
                nodes.append_entities,
                inputs=[
                    "interactions",
                    "previous.items",
                    "previous.users",
                    "raw_new_items",
                    "raw_new_item_texts",
                    "raw_new_users",
                    "params:ingestion",
                ],
                outputs=["items", "users", "new_entities_report"],
                name="append_entities",
            ),
            Node(
                nodes.build_grown_log,
                inputs=[
                    "interactions",
                    "items",
                    "users",
                    "champion.log",
                    "params:history",
                    "params:ingestion",
                    "params:engine",
                ],
                outputs=["log_without_embeddings", "history_report"],
                name="build_grown_log",
            ),
            Node(
                nodes.embed_new_items,
                inputs=[
                    "log_without_embeddings",
                    "champion.log",
                    "champion.item_embeddings",
                    "params:history",
                    "params:engine",
                    *encoders,
                ],
                outputs=["item_embeddings", "log"],
                name="embed_new_items",
                tags=["gpu"],
            ),
            Node(
                nodes.train_challenger,
                inputs=[
                    "champion.lens",
                    "log",
                    "champion.log",
                    "params:update.lens",
                    "params:engine",
                ],
                outputs=["challenger_lens", "lens_update_log"],
                name="train_challenger",
            ),
            Node(
                nodes.promote,
                inputs=[
                    "champion.lens",
                    "challenger_lens",
                    "first.lens",
                    "log",
                    "champion.log",
                    "first.log",
                    "params:update.promotion",
                    "params:bootstrap",
                    "params:update.accept",
                ],
                outputs=["lens", "promotion_report"],
                name="promote",
            ),
            *retrievers,
            Node(
                nodes.name_current_model,
                inputs={
                    "variant": "params:update.variant",
                    "ranked_by": "params:recommendation.variant",
                    "retriever": "params:update.retriever",
                }
                | {
                    name: name
                    for name in (
                        "promotion_report",
                        "versions_in_use",
                        "model_history",
                        "new_interactions_report",
                        *decided,
                    )
                }
                | {f"grown_{name}": name for name in retriever},
                outputs="champion",
                name="name_current_model",
            ),
            Node(
                nodes.show_update,
                inputs=[
                    "promotion_report",
                    "new_interactions_report",
                    "examination_report",
                    "new_entities_report",
                    *decided,
                ],
                outputs=None,
                name="show_update",
            ),
        ],
        namespace="update",
        prefix_datasets_with_namespace=False,
    )
    return update + adapter_pipeline(names, variant) if variant else update


def adapter_pipeline(names: PipelineNames, variant: str) -> Pipeline:
    """Train the current model's adapter on the grown log for the next model."""
    history, settings = names.variants[variant], f"params:finetuning.variants.{variant}"
    continuation = Pipeline(
        [
            Node(
                nodes.draw_update_questions,
                inputs=["log", "champion.log", "params:history", "params:update.adapter"],
                outputs="update_questions",
                name="draw_update_questions",
            ),
            Node(
                compute_gate_inputs,
                inputs=["lens", "log", "update_questions", settings, "params:engine"],
                outputs="update.gate_inputs",
                name="compute_gate_inputs",
            ),
            Node(
                nodes.update_adapter,
                inputs=[
                    "base_llm",
                    f"champion.{variant}.adapter",
                    f"update.{history}.prompts",
                    "update.gate_inputs",
                    "params:prompt",
                    settings,
                    "params:update.adapter",
                    "params:update.promotion",
                    "params:bootstrap",
                    "params:engine",
                ],
                outputs=["adapter_update_log", "adapter_promotion_report", f"{variant}.adapter"],
                name="update_adapter",
                tags=["gpu"],
            ),
        ],
        namespace="update",
        prefix_datasets_with_namespace=False,
    )
    return continuation + prompts_pipeline("update", names, [history])
