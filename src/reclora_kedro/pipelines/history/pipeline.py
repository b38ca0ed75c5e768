"""The history pipeline."""

from types import ModuleType

from kedro.pipeline import Node, Pipeline

from kedro_provenance.errors import Fault, NameRefusedError, Parameter
from reclora_kedro.history.selections import SELECTIONS
from reclora_kedro.pipelines.history import nodes
from reclora_kedro.pipelines.names import PipelineNames


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Build the log with item vectors, and the questions for the LLM, from the canonical tables."""
    selection = _few_shot_selection(names)
    return Pipeline(
        [
            Node(
                nodes.build_log,
                inputs=["interactions", "items", "users", "params:history", "params:ingestion", "params:engine"],
                outputs=["log_without_embeddings", "history_report"],
                name="build_log",
            ),
            Node(
                nodes.check_negatives,
                inputs=["log_without_embeddings", "params:history"],
                outputs="negatives_report",
                name="check_negatives",
            ),
            Node(
                selection.draw_learning_questions,
                inputs=["log_without_embeddings", "params:history", "params:few_shot", *selection.INPUTS],
                outputs="learning_questions",
                name="draw_learning_questions",
                tags=["gpu"] if "base_llm" in selection.INPUTS else [],
            ),
            Node(
                nodes.draw_test_questions,
                inputs=["log_without_embeddings", "params:history"],
                outputs="test_questions",
                name="draw_test_questions",
            ),
            Node(
                nodes.embed_items,
                inputs=["items", "params:history", "params:engine", *names.item_encoders],
                outputs="item_embeddings",
                name="embed_items",
                tags=["gpu"],
            ),
            Node(
                nodes.assemble_log,
                inputs=["log_without_embeddings", "item_embeddings"],
                outputs="log",
                name="assemble_log",
            ),
            Node(
                nodes.check_retrieval,
                inputs=["log", "params:history"],
                outputs="retrieval_report",
                name="check_retrieval",
            ),
            Node(nodes.show_history, inputs="history_report", outputs=None, name="show_history"),
        ],
        namespace="history",
        prefix_datasets_with_namespace=False,
    )


def _few_shot_selection(names: PipelineNames) -> ModuleType:
    """Return the module for ``few_shot.selection``, or raise NameRefusedError for an unknown one."""
    try:
        return SELECTIONS.load(names.parameters["few_shot"]["selection"])
    except ValueError as error:
        raise NameRefusedError(Fault(Parameter("few_shot.selection"), "", str(error))) from error
