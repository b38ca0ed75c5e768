"""The forget pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.forget import nodes
from reclora_kedro.pipelines.names import PipelineNames


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Make everything in use again without some users, and list what stored versions still hold of them.

    With `forget.retrain`, the registered pipelines train the weights again on the remaining log.
    """
    variants_in_use = {names.optional_variant_of(step) for step in ("recommendation", "update")} - {None}
    trained, adapters = names.retrained_weights, [f"{variant}.adapter" for variant in sorted(map(str, variants_in_use))]
    kept = [
        Node(
            nodes.keep_item_vectors,
            inputs=[
                "previous.item_embeddings",
                "champion.item_embeddings",
                "previous.items",
                "log_without_embeddings",
            ],
            outputs=["item_embeddings", "log"],
            name="keep_item_vectors",
        ),
        Node(
            nodes.forget_in_lens,
            inputs=["champion.lens", "champion.log", "log"],
            outputs="lens",
            name="forget_in_lens",
        ),
    ]
    kept += [
        Node(
            nodes.keep_adapter, inputs=f"champion.{adapter}", outputs=adapter, name=f"keep_{adapter.replace('.', '_')}"
        )
        for adapter in adapters
    ]
    weights = trained or ("lens", *adapters)
    return Pipeline(
        [
            Node(
                nodes.forget_in_tables_and_log,
                inputs=[
                    "previous.interactions",
                    "previous.items",
                    "previous.users",
                    "archive",
                    "journal",
                    "users_to_drop",
                    "champion.log",
                    "params:forget",
                    "params:ingestion",
                    "params:history",
                    "params:engine",
                ],
                outputs=["interactions", "items", "users", "log_without_embeddings"],
                name="forget_in_tables_and_log",
            ),
            Node(
                nodes.remember_users,
                inputs=["users_to_drop", "params:forget", "users"],
                outputs="forgotten_users",
                name="remember_users",
            ),
            Node(
                nodes.forget_in_quarantine,
                inputs=["withheld_interactions", "params:forget", "users"],
                outputs="quarantined_interactions",
                name="forget_in_quarantine",
            ),
            *([] if trained else kept),
            Node(
                nodes.find_remains,
                inputs=["archive", "model_history", "items", "params:forget", *weights, "quarantined_interactions"],
                outputs=["forget_report", "versions_to_erase"],
                name="find_remains",
            ),
            Node(
                nodes.name_current_model,
                inputs={
                    name: name
                    for name in (
                        "model_history",
                        "versions_in_use",
                        "archive",
                        "versions_to_erase",
                        "forgotten_users",
                        *weights,
                    )
                },
                outputs="champion",
                name="name_current_model",
            ),
            Node(nodes.show_remains, inputs=["forget_report", "params:forget"], outputs=None, name="show_remains"),
        ],
        namespace="forget",
        prefix_datasets_with_namespace=False,
    )
