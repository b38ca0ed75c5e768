"""The finetuning pipeline."""

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import chain, pairwise

from kedro.pipeline import Node, Pipeline

from kedro_provenance.parameters import NameRefusedError
from reclora_kedro.finetuning import training
from reclora_kedro.pipelines.finetuning import nodes
from reclora_kedro.pipelines.names import PipelineNames, inner_block
from reclora_kedro.pipelines.questions import prompts_pipeline

CLICK, UNTRAINED, LENS = "click", "untrained", "lens"
"""The objective without references, and the references of the other objectives that are no variants."""
PARAMETERS = ("params:prompt", "params:variant", "params:engine")


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Prompts of the rows that the LLM learns from, then the same training for every variant in its own namespace."""
    histories, references = names.variants, reference_variants(names)
    parts = [train_pipeline(variant, histories[variant], references[variant]) for variant in histories]
    parts += [reference_pipeline(name, histories[name]) for name in sorted({*chain(*references.values())})]
    report = Node(
        training.training_report,
        {variant: f"{variant}.training_log" for variant in histories},
        "training_report",
        name="report_training",
    )
    parts.append(Pipeline([report], namespace="finetuning", prefix_datasets_with_namespace=False))
    return sum(parts, start=prompts_pipeline("learning", names, names.short_histories))


def reference_variants(names: PipelineNames) -> dict[str, tuple[str, ...]]:
    """Return the other variants that the preferences of each variant are held against.

    Raises:
        NameRefusedError: a reference is neither untrained nor lens nor another variant, or references go in a circle.
    """
    references = dict[str, tuple[str, ...]]()
    for variant in names.variants:
        training = inner_block(names.parameters["finetuning"]["variants"][variant], "training")
        objective = inner_block(training, "objective")
        named = objective.get("references") if objective.get("kind", CLICK) != CLICK else None
        references[variant] = tuple(name for name in named or () if name not in (UNTRAINED, LENS))
        others = {*names.variants} - {variant}
        for name in references[variant]:
            if not isinstance(name, str) or name not in others:
                raise NameRefusedError(
                    f"finetuning.variants.{variant}.training.objective.references names {name!r}, but a reference is "
                    f"one of {', '.join([UNTRAINED, LENS, *sorted(others)])}."
                )
    try:
        TopologicalSorter(references).prepare()
    except CycleError as error:
        circle = (f"{variant} names {reference}" for variant, reference in pairwise(reversed(error.args[1])))
        raise NameRefusedError(
            f"finetuning.variants.*.training.objective.references go in a circle: {', '.join(circle)}. A reference is "
            "trained before what is held against it: take one of these names out."
        ) from error
    return references


def train_pipeline(variant: str, history: str, references: Sequence[str]) -> Pipeline:
    """The training of one variant on the prompts of its history, held against the logits of other variants."""
    logits = [f"{name}.few_shot_logits" for name in references]
    return _of_variant(
        variant,
        history,
        Node(
            nodes.train_adapter,
            inputs=["base_llm", "prompts", "learning_states", "checkpoints", *PARAMETERS, *logits],
            outputs=["training_log", "adapter"],  # the adapter last: checkpoints are removed when it is saved
            name="train_adapter",
            tags=["gpu"],
        ),
        *logits,
    )


def reference_pipeline(variant: str, history: str) -> Pipeline:
    """What a trained variant says of the few-shot rows, for others that are held against it."""
    return _of_variant(
        variant,
        history,
        Node(
            nodes.score_few_shot,
            inputs=["base_llm", "prompts", "learning_states", "adapter", *PARAMETERS],
            outputs="few_shot_logits",
            name="score_few_shot",
            tags=["gpu"],
        ),
    )


def _of_variant(variant: str, history: str, node: Node, *others: str) -> Pipeline:
    """A node in a variant's namespace, beside what it shares with others."""
    return Pipeline(
        [node],
        namespace=variant,
        inputs={
            "base_llm": "base_llm",
            "prompts": f"learning.{history}.prompts",
            "learning_states": "learning_states",
            **{name: name for name in others},
        },
        parameters={
            "params:prompt": "params:prompt",
            "params:engine": "params:engine",
            "params:variant": f"params:finetuning.variants.{variant}",
        },
    )
