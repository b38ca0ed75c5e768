"""The lens zoo pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.lens_zoo import nodes
from reclora_kedro.pipelines.names import zoo_lens_names


def create_pipeline(**kwargs: object) -> Pipeline:
    """The log in; each lens of the list trained on the same split; one comparison out."""
    names = zoo_lens_names()
    training = [
        Node(
            nodes.train_zoo_lens,
            inputs=["log", "params:lens", "params:lens_zoo", f"params:lens_zoo.lenses.{name}"],
            outputs=f"{name}.zoo_runs",
            name=f"train_{name}",
        )
        for name in names
    ]
    return Pipeline(
        [
            *training,
            Node(
                nodes.compare_lenses,
                inputs={name: f"{name}.zoo_runs" for name in names},
                outputs="lens_comparison",
                name="compare_lenses",
            ),
            Node(nodes.plot_lenses, inputs="lens_comparison", outputs="lens_comparison_figure", name="plot_lenses"),
            Node(nodes.show_lenses, inputs="lens_comparison", outputs=None, name="show_lenses"),
        ],
        namespace="lens_zoo",
        prefix_datasets_with_namespace=False,
    )
