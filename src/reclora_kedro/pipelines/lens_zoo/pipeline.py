"""Wiring of the lens zoo."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.configured_names import zoo_lens_names
from reclora_kedro.pipelines.lens_zoo import nodes


def create_pipeline(**kwargs: object) -> Pipeline:
    """Samples and sequences in; each lens of the list in a namespace of its own; one comparison out."""
    names = zoo_lens_names()
    compare = Pipeline(
        [
            Node(
                nodes.compare_lenses,
                inputs={name: f"{name}.zoo_runs" for name in names},
                outputs="lens_comparison",
                name="compare_lenses",
            ),
            Node(nodes.plot_lenses, inputs="lens_comparison", outputs="lens_comparison_figure", name="plot_lenses"),
            Node(nodes.show_lenses, inputs="lens_comparison", outputs=None, name="show_lenses"),
        ]
    )
    return compare + sum((train_pipeline(name) for name in names), start=Pipeline([]))


def train_pipeline(name: str) -> Pipeline:
    """The training of one lens of the zoo."""
    shared = {"samples", "sequences", "item_embeddings", "items", "users"}
    return Pipeline(
        [
            Node(
                nodes.train_zoo_lens,
                inputs={entry: entry for entry in sorted(shared)}
                | {"lens": "params:lens", "lens_zoo": "params:lens_zoo", "changes": "params:changes"},
                outputs="zoo_runs",
                name="train_zoo_lens",
            )
        ],
        namespace=name,
        inputs=shared,
        parameters={
            "params:lens": "params:lens",
            "params:lens_zoo": "params:lens_zoo",
            "params:changes": f"params:lens_zoo.lenses.{name}",
        },
    )
