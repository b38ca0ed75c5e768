"""Pipelines of the project, found by Kedro in ``reclora_kedro.pipelines``."""

from collections.abc import Collection
from importlib import import_module

from kedro.framework.project import find_pipelines
from kedro.pipeline import Pipeline
from kedro.pipeline.pipeline import CircularDependencyError

from kedro_provenance.parameters import NameRefusedError
from reclora_kedro.pipelines.names import TUNED_ENCODER, item_encoders, lens_retrieves, trained_again

TRAINING = ("history", "encoders", "lens", "finetuning", "candidates")
"""Pipelines that train weights, or make of a log what they are trained on."""

ON_REQUEST = {
    "base_model",
    "black_box",
    "candidates",
    "encoders",
    "export",
    "forget",
    "merging",
    "ranking",
    "recommendation",
    "rollback",
    "study",
    "update",
}


def register_pipelines() -> dict[str, Pipeline]:
    """Every pipeline by its folder's name; ``__default__`` is the whole flow from raw files to the report.

    An item encoder is tuned in it where items are embedded by one, and a retriever trained where the lens reads one.

    Raises:
        NameRefusedError: a parameter names what a step cannot read.
    """
    try:
        pipelines = find_pipelines(raise_errors=True)
    except CircularDependencyError as error:
        cycle = ", ".join(dict.fromkeys(node.name for node in getattr(error.__cause__, "args", ("", []))[1]))
        raise NameRefusedError(
            "A parameter, such as history.item_embedding.encoders, names an entry that is made of what its step "
            f"leaves, so that nodes go in a circle: {cycle}."
        ) from error
    needed = {"encoders": TUNED_ENCODER in item_encoders(), "candidates": lens_retrieves()}
    on_request = ON_REQUEST - {step for step, is_needed in needed.items() if is_needed}
    flow = [pipeline for name, pipeline in pipelines.items() if name not in on_request]
    pipelines["__default__"] = sum(flow, start=Pipeline([]))
    if "forget" in pipelines and (weights := trained_again()):
        pipelines["forget"] += training_of(weights, pipelines["forget"].all_outputs())
    return pipelines


def training_of(weights: Collection[str], made: Collection[str]) -> Pipeline:
    """All that trains weights, but for nodes whose outputs are made already."""
    steps = (import_module(f"{__package__}.pipelines.{step}").create_pipeline() for step in TRAINING)
    training = sum(steps, start=Pipeline([])).to_outputs(*weights)
    return Pipeline([node for node in training.nodes if set(node.outputs).isdisjoint(made)])
