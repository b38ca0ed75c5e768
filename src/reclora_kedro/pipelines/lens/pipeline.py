"""The lens pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.lens import nodes
from reclora_kedro.pipelines.names import PipelineNames


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Train the lens; compute its states of the rows that become prompts, and its scores of the test rows."""
    # A lens of all rows does not read which of them the LLM sees: a study with other ones need not train it again.
    reads_few_shot = names.parameters["lens"]["training_rows"] == "few_shot"
    few_shot = {"learning_questions": "learning_questions"} if reads_few_shot else {}
    retriever = {"retriever": "retriever"} if names.lens_reads_retriever else {}
    return Pipeline(
        [
            Node(
                nodes.train_lens,
                inputs={"log": "log", "config": "params:lens", "engine": "params:engine", **few_shot, **retriever},
                outputs=["lens", "lens_training_log"],
                name="train_lens",
                tags=["training"],  # lists, which need none, come before it
            ),
            Node(
                nodes.measure_lens,
                inputs=["lens", "log", "params:bootstrap"],
                outputs="lens_metrics",
                name="measure_lens",
                tags=["evaluation"],  # lists and their tables come before it
            ),
            Node(nodes.show_lens, inputs="lens_metrics", outputs=None, name="show_lens"),
            Node(
                nodes.compute_test_states,
                inputs=["lens", "log", "test_questions", "params:engine"],
                outputs=["test_states", "lens_scores"],
                name="compute_test_states",
            ),
            Node(
                nodes.compute_learning_states,
                inputs=["lens", "log", "learning_questions", "params:engine"],
                outputs="learning_states",
                name="compute_learning_states",
            ),
        ],
        namespace="lens",
        prefix_datasets_with_namespace=False,
    )
