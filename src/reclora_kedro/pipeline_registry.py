"""Pipelines of the project and of installed packages."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from types import ModuleType

from kedro.pipeline import Pipeline
from kedro.pipeline.pipeline import CircularDependencyError

from kedro_provenance.errors import Fault, NameRefusedError, Parameter
from kedro_provenance.failures import RunRefusedError, command
from kedro_provenance.parameters import nearest_path
from kedro_provenance.project import requested_pipelines, session_parameters
from reclora_kedro.extras import missing_extra
from reclora_kedro.pipelines.lists import STEPS_OF_LISTS
from reclora_kedro.pipelines.names import TUNED_ENCODER, PipelineNames
from reclora_kedro.pipelines.registry import PIPELINES

DEFAULT_STEPS = (*STEPS_OF_LISTS, "lens", "finetuning", "scoring", "evaluation")
"""Steps of the default flow; the others run on request."""
SHOWN_ALONE = ("ingestion.show_ingestion", "history.show_history", "lens.show_lens")
"""Tables of single steps, which the default flow leaves to the report."""
DRAWS = ("history.draw_learning_questions", "history.draw_test_questions")
"""Nodes that draw the rows by which an LLM learns to predict likes, and is evaluated."""
STEPS_WITHOUT_LLM = (*STEPS_OF_LISTS, "lens")
"""Steps of the default flow where the packages of the extra ``llm`` are not installed, but PyTorch is."""
TRAINING_STEPS = ("history", "encoders", "lens", "finetuning", "candidates")
"""Steps that train weights, or prepare their training data."""


def register_pipelines() -> dict[str, Pipeline]:
    """Return each requested pipeline by its name; ``__default__`` is the flow from raw files to the report.

    The session's parameters determine names and optional inputs; see `default_flow` for the steps of the default flow.
    Without the packages of the extra ``llm``, those that need them are left out where none is requested by name.
    NameRefusedError is raised for a parameter that names something that a step cannot read, RunRefusedError for a
    requested pipeline that does not exist, or needs a package that is not installed.
    """
    steps, known = requested_pipelines(), PIPELINES.modules()
    for step in steps or ():
        if step not in known:
            raise RunRefusedError(f"There is no pipeline {step}. The nearest name is {nearest_path(step, known)}.")
    names = PipelineNames.from_parameters(session_parameters())
    try:
        pipelines = create_pipelines(loadable(known) if steps is None else steps, names)
        if steps is None:
            pipelines = without_llm(pipelines)
            pipelines["__default__"] = default_flow(pipelines, names)
        if "forget" in pipelines and names.retrained_weights:
            pipelines["forget"] += retraining(names, pipelines["forget"].all_outputs())
    except CircularDependencyError as error:
        cycle = ", ".join(dict.fromkeys(node.name for node in getattr(error.__cause__, "args", ("", []))[1]))
        found = "(or another parameter) names an entry that depends on results of its own step"
        encoders = Parameter("history.item_embedding.encoders")
        raise NameRefusedError(Fault(encoders, found, f"so nodes depend on each other in a circle: {cycle}")) from error
    return pipelines


def default_flow(pipelines: Mapping[str, Pipeline], names: PipelineNames) -> Pipeline:
    """Return the default flow.

    It tunes an item encoder where the history step embeds items by it, and trains a retriever where the lens or
    ``recommendation.sources`` needs one. Without the packages of an LLM, it ends with the lens; without
    PyTorch, and where every row is liked, with recommendations.
    """
    steps = dict(pipelines)
    if "evaluation" in steps:
        steps |= create_pipelines(["evaluation"], replace(names, report_reads_choice=True))
    needed = {
        "encoders": TUNED_ENCODER in names.item_encoders,
        "candidates": names.lens_reads_retriever or bool(names.retriever),
    }
    has_llm = missing_extra("llm", "") is None
    lists_alone = names.likes_alone or missing_extra("lens", "") is not None
    default = STEPS_OF_LISTS if lists_alone else DEFAULT_STEPS if has_llm else STEPS_WITHOUT_LLM
    chosen = [*default, *(step for step, is_needed in needed.items() if is_needed)]
    flow = sum((steps[step] for step in chosen), start=Pipeline([]))
    left_out = DRAWS if names.likes_alone else SHOWN_ALONE if has_llm else ()
    return Pipeline([node for node in flow.nodes if node.name not in left_out])


def create_pipelines(steps: Collection[str], names: PipelineNames) -> dict[str, Pipeline]:
    """Return each step's pipeline by name; raise NameRefusedError with all names that steps cannot read."""
    pipelines, faults = dict[str, Pipeline](), list[Fault]()
    for step in steps:
        try:
            pipelines[step] = load_step(step).create_pipeline(names)
        except NameRefusedError as error:
            faults += error.args
    if faults:
        raise NameRefusedError(*faults)
    return pipelines


def loadable(steps: Collection[str]) -> list[str]:
    """Return the steps whose packages are installed."""
    usable = []
    for step in steps:
        with suppress(RunRefusedError):
            load_step(step)
            usable.append(step)
    return usable


def without_llm(pipelines: dict[str, Pipeline]) -> dict[str, Pipeline]:
    """Return the pipelines that no LLM's settings enter, where the packages of an LLM are not installed; else all."""
    text = missing_extra("llm", "recommendation.variant")
    if text is None:
        return pipelines
    kept = {
        step: pipeline
        for step, pipeline in pipelines.items()
        if not any(name.startswith("params:finetuning") for name in pipeline.inputs())
    }
    if "recommendation" not in kept:
        raise RunRefusedError(f"{text}, or set it to null. Nothing was written.")
    return kept


def load_step(step: str) -> ModuleType:
    """Import a step's package; raise RunRefusedError, with the line to type, if it needs an LLM's missing packages."""
    text = missing_extra("llm", f"The pipeline {step}")
    try:
        module = PIPELINES.load(step)
    except ModuleNotFoundError:
        if text is None:
            raise
    else:
        if text is None or not getattr(module, "NEEDS_LLM", False):
            return module
    without = command(f"--pipelines {','.join(STEPS_OF_LISTS)}", None)
    raise RunRefusedError(f"Without an LLM, run {without}. {text}. Nothing was written.")


def retraining(names: PipelineNames, made: Collection[str]) -> Pipeline:
    """Return the nodes that train the weights in use, without those whose outputs another node makes."""
    steps = create_pipelines(TRAINING_STEPS, names).values()
    training = sum(steps, start=Pipeline([])).to_outputs(*names.retrained_weights)
    return Pipeline([node for node in training.nodes if set(node.outputs).isdisjoint(made)])
