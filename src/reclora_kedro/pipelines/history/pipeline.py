"""The history pipeline."""

from types import ModuleType

from kedro.pipeline import Pipeline

from kedro_provenance.errors import Fault, NameRefusedError, Parameter
from reclora_kedro.history.selections import SELECTIONS
from reclora_kedro.pipelines.history import nodes
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.wiring import node, step


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Build the log with item vectors, and the questions for the LLM, from the canonical tables."""
    selection = _few_shot_selection(names)
    return step(
        "history",
        node(
            nodes.build_log,
            ["interactions", "items", "users", "params:history", "params:ingestion", "params:engine"],
            ["log_without_embeddings", "history_report"],
        ),
        node(nodes.check_negatives, ["log_without_embeddings", "params:history"], "negatives_report"),
        node(
            selection.draw_learning_questions,
            ["log_without_embeddings", "params:history", "params:few_shot", *selection.INPUTS],
            "learning_questions",
            tags=["gpu"] if "base_llm" in selection.INPUTS else [],
        ),
        node(nodes.draw_test_questions, ["log_without_embeddings", "params:history"], "test_questions"),
        node(
            nodes.embed_items,
            ["items", "params:history", "params:engine", *names.item_encoders],
            "item_embeddings",
            tags=["gpu"],
        ),
        node(nodes.assemble_log, ["log_without_embeddings", "item_embeddings"], "log"),
        node(nodes.check_retrieval, ["log", "params:history"], "retrieval_report"),
        node(nodes.show_history, "history_report", None),
    )


def _few_shot_selection(names: PipelineNames) -> ModuleType:
    """Return the module for ``few_shot.selection``, or raise NameRefusedError for an unknown one."""
    try:
        return SELECTIONS.load(names.parameters["few_shot"]["selection"])
    except ValueError as error:
        raise NameRefusedError(Fault(Parameter("few_shot.selection"), "", str(error))) from error
