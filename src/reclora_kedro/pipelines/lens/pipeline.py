"""The lens pipeline."""

from kedro.pipeline import Pipeline

from reclora_kedro.evaluation.report import lens_table
from reclora_kedro.lens.metrics import measure_lens
from reclora_kedro.pipelines.lens import nodes
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.wiring import named, node, shown, step


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Train the lens; compute its states of the rows that become prompts, and its scores of the test rows."""
    # A lens of all rows does not read which of them the LLM sees: a study with other ones need not train it again.
    read = ["learning_questions"] if names.parameters["lens"]["training_rows"] == "few_shot" else []
    read += ["retriever"] if names.lens_reads_retriever else []
    return step(
        "lens",
        node(
            nodes.train_lens,
            named("log", *read, config="params:lens", engine="params:engine"),
            ["lens", "lens_training_log"],
            tags=["training"],  # lists, which need none, come before it
        ),
        node(
            measure_lens,
            ["lens", "log", "params:bootstrap"],
            "lens_metrics",
            tags=["evaluation"],  # lists and their tables come before it
        ),
        shown("show_lens", lens_table, "lens_metrics"),
        node(
            nodes.compute_test_states,
            ["lens", "log", "test_questions", "params:engine"],
            ["test_states", "lens_scores"],
        ),
        node(nodes.compute_learning_states, ["lens", "log", "learning_questions", "params:engine"], "learning_states"),
    )
