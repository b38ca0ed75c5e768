"""The finetuning pipeline."""

from collections.abc import Iterable, Mapping
from pkgutil import resolve_name

from kedro.pipeline import Node, Pipeline

from reclora_kedro.finetuning import training_log
from reclora_kedro.finetuning.examples import objective_class
from reclora_kedro.pipelines.finetuning import nodes
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.questions import prompts_pipeline

PARAMETERS = ("params:prompt", "params:variant", "params:engine")


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Build the prompts to learn from, then train each variant in a namespace of its own."""
    parts = []
    for variant, history in names.variants.items():
        inputs = objective_inputs(variant, names)
        parts += [train_pipeline(variant, history, inputs), *inputs.values()]
    report = Node(
        training_log.training_report,
        {variant: f"{variant}.training_log" for variant in names.variants},
        "training_report",
        name="report_training",
    )
    parts.append(Pipeline([report], namespace="finetuning", prefix_datasets_with_namespace=False))
    return sum(parts, start=prompts_pipeline("learning", names, names.short_histories))


def objective_inputs(variant: str, names: PipelineNames) -> Mapping[str, Pipeline]:
    """Return further entries that a variant's objective reads, with their pipelines, see `Objective.inputs_from`."""
    try:
        objective = objective_class(names.objective_of(variant))
    except ValueError:  # an unknown kind, which the check of the variant's values refuses
        return {}
    return resolve_name(objective.inputs_from)(variant, names) if objective.inputs_from else {}


def train_pipeline(variant: str, history: str, inputs: Iterable[str]) -> Pipeline:
    """Return the training of one variant on the prompts of its history, and on the inputs of its objective."""
    train = Node(
        nodes.train_adapter,
        inputs=["base_llm", "prompts", "learning_states", "checkpoints", *PARAMETERS, *inputs],
        outputs=["training_log", "adapter"],  # the adapter last: checkpoints are removed when it is saved
        name="train_adapter",
        tags=["gpu"],
    )
    return of_variant(variant, history, train, *inputs)


def of_variant(variant: str, history: str, node: Node, *shared: str) -> Pipeline:
    """Put a node into a variant's namespace, except for entries that it shares with other variants."""
    return Pipeline(
        [node],
        namespace=variant,
        inputs={
            "base_llm": "base_llm",
            "prompts": f"learning.{history}.prompts",
            "learning_states": "learning_states",
            **{name: name for name in shared},
        },
        parameters={
            "params:prompt": "params:prompt",
            "params:engine": "params:engine",
            "params:variant": f"params:finetuning.variants.{variant}",
        },
    )
