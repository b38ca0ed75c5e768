"""Pipelines of the project: its own, and those that installed packages add."""

from collections.abc import Collection

from kedro.framework.project import pipelines
from kedro.pipeline import Pipeline
from kedro.pipeline.pipeline import CircularDependencyError

from kedro_provenance.failures import RunRefusedError
from kedro_provenance.parameters import NameRefusedError, nearest_path
from reclora_kedro.pipelines import PIPELINES
from reclora_kedro.pipelines.names import TUNED_ENCODER, item_encoders, lens_retrieves, trained_again

FLOW = ("ingestion", "history", "lens", "finetuning", "scoring", "evaluation")
"""Pipelines of the whole flow, from raw files to the report; others run on request."""
TRAINING = ("history", "encoders", "lens", "finetuning", "candidates")
"""Pipelines that train weights, or make of a log what they are trained on."""


def register_pipelines() -> dict[str, Pipeline]:
    """Every pipeline by its name; ``__default__`` is the whole flow from raw files to the report.

    An item encoder is tuned in it where items are embedded by one, and a retriever trained where the lens reads one.

    Raises:
        NameRefusedError: a parameter names what a step cannot read.
        RunRefusedError: a pipeline is asked for that does not exist.
    """
    names = requested_pipelines()
    try:
        registered = {name: PIPELINES.load(name).create_pipeline() for name in names}
    except CircularDependencyError as error:
        cycle = ", ".join(dict.fromkeys(node.name for node in getattr(error.__cause__, "args", ("", []))[1]))
        raise NameRefusedError(
            "A parameter, such as history.item_embedding.encoders, names an entry that is made of what its step "
            f"leaves, so that nodes go in a circle: {cycle}."
        ) from error
    needed = {"encoders": TUNED_ENCODER in item_encoders(), "candidates": lens_retrieves()}
    flow = {*FLOW, *(step for step, is_needed in needed.items() if is_needed)}
    default = sum((pipeline for name, pipeline in registered.items() if name in flow), start=Pipeline([]))
    if "forget" in registered and (weights := trained_again()):
        registered["forget"] += training_of(weights, registered["forget"].all_outputs())
    return registered | {"__default__": default}


def requested_pipelines() -> list[str]:
    """Names of the pipelines that a command asks for, all where it asks for the whole flow or names none.

    Raises:
        RunRefusedError: there is no such pipeline.
    """
    known = PIPELINES.modules()
    # A private name: Kedro tells its own find_pipelines alone, which looks in one package.
    requested = pipelines._requested_pipelines
    if requested is None or "__default__" in requested:
        return list(known)
    for name in requested:
        if name not in known:
            raise RunRefusedError(f"{name} is no pipeline. The nearest one is {nearest_path(name, known)}.")
    return list(requested)


def training_of(weights: Collection[str], made: Collection[str]) -> Pipeline:
    """All that trains weights, but for nodes whose outputs are made already."""
    steps = (PIPELINES.load(step).create_pipeline() for step in TRAINING)
    training = sum(steps, start=Pipeline([])).to_outputs(*weights)
    return Pipeline([node for node in training.nodes if set(node.outputs).isdisjoint(made)])
