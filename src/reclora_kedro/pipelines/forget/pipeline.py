"""The forget pipeline."""

from kedro.pipeline import Pipeline

from reclora_kedro.pipelines.forget import nodes
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.wiring import named, node, params, step
from reclora_kedro.update.forgetting import forget_in_lens


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Make everything in use again without some users, and list what stored versions still hold of them.

    With `forget.retrain`, the registered pipelines train the weights again on the remaining log.
    """
    variants_in_use = {names.optional_variant_of(step) for step in ("recommendation", "update")} - {None}
    trained, adapters = names.retrained_weights, [f"{variant}.adapter" for variant in sorted(map(str, variants_in_use))]
    lens = names.lens_to_forget_in
    tables = ["previous.interactions", "previous.items", "previous.users"]
    settings = params("forget", "ingestion", "history", "engine")
    kept = [
        node(
            nodes.keep_item_vectors,
            ["previous.item_embeddings", "champion.item_embeddings", "previous.items", "items"],
            "item_embeddings",
        ),
        node(nodes.add_item_vectors, ["log_without_embeddings", "item_embeddings"], "log"),
        *(node(forget_in_lens, ["champion.lens", "champion.log", "log"], name) for name in lens),
    ]
    kept += [
        node(nodes.keep_adapter, f"champion.{adapter}", adapter, name=f"keep_{adapter.replace('.', '_')}")
        for adapter in adapters
    ]
    weights = trained or (*lens, *adapters)
    return step(
        "forget",
        node(
            nodes.forget_in_tables_and_log,
            [*tables, "archive", "journal", "users_to_drop", "champion.log", *settings],
            ["interactions", "items", "users", "log_without_embeddings"],
        ),
        node(nodes.remember_users, ["users_to_drop", "params:forget", "users"], "forgotten_users"),
        node(
            nodes.forget_in_quarantine,
            ["withheld_interactions", "params:forget", "users"],
            "quarantined_interactions",
        ),
        *([] if trained else kept),
        node(
            nodes.find_remains,
            ["archive", "model_history", "items", "params:forget", *weights, "quarantined_interactions"],
            ["forget_report", "versions_to_erase"],
        ),
        node(
            nodes.name_current_model,
            named("model_history", "versions_in_use", "archive", "versions_to_erase", "forgotten_users", *weights),
            "champion",
        ),
        node(nodes.show_remains, ["forget_report", "params:forget"], None),
    )
