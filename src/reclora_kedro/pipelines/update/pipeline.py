"""The update pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.names import TUNED_ENCODER, PipelineNames
from reclora_kedro.pipelines.question_nodes import compute_gate_inputs
from reclora_kedro.pipelines.questions import prompts_pipeline
from reclora_kedro.pipelines.update import nodes
from reclora_kedro.pipelines.wiring import named, node, params, step


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Make the next model from new raw tables, the newest canonical tables and the current model.

    Without a lens, as where `update.lens` is null or every row is liked, lists are made of the grown log.
    """
    learns = not names.likes_alone and names.parameters["update"]["lens"] is not None
    variant = names.optional_variant_of("update")
    retriever = ["retriever"] if names.parameters["update"]["retriever"] else []
    decided = ["adapter_promotion_report"] if variant else []
    new_items = ["raw_new_items", "raw_new_item_texts"]
    logs, lenses = ["champion.log", "first.log"], ["champion.lens", "challenger_lens", "first.lens"]
    raw = ["previous.interactions", "raw_new_interactions", "journal", "users_to_drop", "previous.items", *new_items]
    examined = params("ingestion", "history", "update.examination", "update.accept", "update.reject")
    examined += lenses[::2] if learns else []
    settings = ["params:history", "params:engine"]
    # New items are read by what read those that the lens knows, however often the encoder was tuned since.
    encoders = [f"champion.{name}" if name == TUNED_ENCODER else name for name in names.item_encoders]
    retrievers = [node(nodes.grow_retriever, [f"champion.{name}", "log"], name) for name in retriever]
    update = step(
        "update",
        node(
            nodes.clean_new_interactions,
            [*raw, "params:ingestion", "params:engine"],
            ["new_interactions", "new_interactions_report"],
        ),
        node(
            nodes.append_interactions,
            ["new_interactions", "previous.interactions", "withheld_interactions", *logs, *examined],
            ["interactions", "quarantined_interactions", "examination_report"],
        ),
        node(
            nodes.append_entities,
            [
                "interactions",
                "previous.items",
                "previous.users",
                *new_items,
                "raw_new_users",
                "journal",
                "params:ingestion",
            ],
            ["items", "users", "new_entities_report"],
        ),
        node(
            nodes.build_grown_log,
            ["interactions", "items", "users", "champion.log", "params:history", "params:ingestion", "params:engine"],
            ["log_without_embeddings", "history_report"],
        ),
        node(
            nodes.embed_new_items,
            ["log_without_embeddings", "champion.log", "champion.item_embeddings", *settings, *encoders],
            ["item_embeddings", "log"],
            tags=["gpu"],
        ),
        *(_learning(lenses) if learns else [node(nodes.take_log, ["log", "champion.log"], "promotion_report")]),
        *retrievers,
        node(
            nodes.name_current_model,
            named("promotion_report", "versions_in_use", "model_history", "new_interactions_report", *decided)
            | {"variant": "params:update.variant", "ranked_by": "params:recommendation.variant"}
            | {"retriever": "params:update.retriever"}
            | {f"grown_{name}": name for name in retriever},
            "champion",
        ),
        node(
            nodes.show_update,
            ["promotion_report", "new_interactions_report", "examination_report", "new_entities_report", *decided],
            None,
        ),
    )
    return update + adapter_pipeline(names, variant) if variant else update


def _learning(lenses: list[str]) -> list[Node]:
    """Return the nodes that train the current lens incrementally, and choose one of three for the next model."""
    return [
        node(
            nodes.train_challenger,
            ["champion.lens", "log", "champion.log", "params:update.lens", "params:engine"],
            ["challenger_lens", "lens_update_log"],
        ),
        node(
            nodes.promote,
            [*lenses, "log", "champion.log", "first.log", *params("update.promotion", "bootstrap", "update.accept")],
            ["lens", "promotion_report"],
        ),
    ]


def adapter_pipeline(names: PipelineNames, variant: str) -> Pipeline:
    """Train the current model's adapter on the grown log for the next model."""
    history, settings = names.variants[variant], f"params:finetuning.variants.{variant}"
    read = ["base_llm", f"champion.{variant}.adapter", f"update.{history}.prompts", "update.gate_inputs"]
    continuation = step(
        "update",
        node(
            nodes.draw_update_questions,
            ["log", "champion.log", "params:history", "params:update.adapter"],
            "update_questions",
        ),
        node(
            compute_gate_inputs,
            ["lens", "log", "update_questions", settings, "params:engine"],
            "update.gate_inputs",
        ),
        node(
            nodes.update_adapter,
            [*read, "params:prompt", settings, *params("update.adapter", "update.promotion", "bootstrap", "engine")],
            ["adapter_update_log", "adapter_promotion_report", f"{variant}.adapter"],
            tags=["gpu"],
        ),
    )
    return continuation + prompts_pipeline("update", names, [history])
