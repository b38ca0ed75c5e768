"""The finetuning pipeline."""

from collections.abc import Mapping
from pkgutil import resolve_name

from kedro.pipeline import Pipeline

from reclora_kedro.finetuning import training_log
from reclora_kedro.finetuning.examples import objective_class
from reclora_kedro.pipelines.finetuning import nodes
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.questions import SETTINGS, of_variant, prompts_pipeline
from reclora_kedro.pipelines.wiring import node, step

READ = ("base_llm", "prompts", "learning_states")
PARAMETERS = (*SETTINGS, "params:engine")


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Build the prompts to learn from, then train each variant in a namespace of its own."""
    parts = []
    for variant, history in names.variants.items():
        inputs = objective_inputs(variant, names)
        train = node(
            nodes.train_adapter,
            [*READ, "checkpoints", *PARAMETERS, *inputs],
            ["training_log", "adapter"],  # the adapter last: checkpoints are removed when it is saved
            tags=["gpu"],
        )
        parts += [of_variant(variant, train, f"learning.{history}.prompts"), *inputs.values()]
    logs = {variant: f"{variant}.training_log" for variant in names.variants}
    report = node(training_log.training_report, logs, "training_report", name="report_training")
    parts.append(step("finetuning", report))
    return sum(parts, start=prompts_pipeline("learning", names, names.short_histories))


def objective_inputs(variant: str, names: PipelineNames) -> Mapping[str, Pipeline]:
    """Return further entries that a variant's objective reads, with their pipelines, see `Objective.inputs_from`."""
    try:
        objective = objective_class(names.objective_of(variant))
    except ValueError:  # an unknown kind, which the check of the variant's values refuses
        return {}
    return resolve_name(objective.inputs_from)(variant, names) if objective.inputs_from else {}
