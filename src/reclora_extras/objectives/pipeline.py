"""Pipelines that make what preferences read beside the few-shot prompts."""

from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from kedro.pipeline import Pipeline

from kedro_provenance.errors import Fault, NameRefusedError, Parameter
from reclora_extras.objectives import nodes
from reclora_extras.objectives.preferences import LENS, UNTRAINED, Preference
from reclora_kedro.finetuning.examples import objective_class
from reclora_kedro.pipelines.finetuning.pipeline import PARAMETERS, READ
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.questions import of_variant
from reclora_kedro.pipelines.wiring import node

REFERENCES = "finetuning.variants.{}.training.objective.references"


def logits_of_references(variant: str, names: PipelineNames) -> dict[str, Pipeline]:
    """Return the logits that other variants give the few-shot rows, in the order of a variant's references."""
    scoring = node(nodes.score_few_shot, [*READ, "adapter", *PARAMETERS], "few_shot_logits", tags=["gpu"])
    return {
        f"{name}.few_shot_logits": of_variant(name, scoring, f"learning.{names.variants[name]}.prompts")
        for name in other_references(names)[variant]
    }


def other_references(names: PipelineNames) -> dict[str, tuple[str, ...]]:
    """Return the other variants that the preferences of each variant are held against.

    NameRefusedError is raised for a reference that is neither untrained nor lens nor another variant, and for
    references that go in a circle.
    """
    references = dict[str, tuple[str, ...]]()
    for variant in names.variants:
        named = names.objective_of(variant).get("references") if _prefers(variant, names) else None
        references[variant] = tuple(name for name in named or () if name not in (UNTRAINED, LENS))
        others = {*names.variants} - {variant}
        for name in references[variant]:
            if not isinstance(name, str) or name not in others:
                path, known = REFERENCES.format(variant), ", ".join([UNTRAINED, LENS, *sorted(others)])
                raise NameRefusedError(Fault(Parameter(path), f"names {name!r}", f"a reference is one of {known}"))
    try:
        TopologicalSorter(references).prepare()
    except CycleError as error:
        circle = (f"{variant} names {reference}" for variant, reference in pairwise(reversed(error.args[1])))
        raise NameRefusedError(
            Fault(
                Parameter(REFERENCES.format("*")),
                f"depend on each other in a circle: {', '.join(circle)}",
                advice="A reference is trained before the variant that is compared with it: remove one of these names",
            )
        ) from error
    return references


def _prefers(variant: str, names: PipelineNames) -> bool:
    try:
        return issubclass(objective_class(names.objective_of(variant)), Preference)
    except ValueError:  # an unknown kind, which the check of the variant's values refuses
        return False
