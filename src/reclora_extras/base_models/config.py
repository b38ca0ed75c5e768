"""Settings of the preparation of a base LLM."""

from itertools import pairwise
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from kedro_provenance.parameters import Block, Resource
from reclora_kedro.extensions import Registry
from reclora_kedro.parameters import Count, CountOrZero, LearningRate, Seed

STEPS = Registry("reclora_extras.base_models.steps")
"""Modules for the values of ``base_model.steps``, each with one subclass of `reclora_extras.base_models.steps.Step`."""


class TuningConfig(Block):
    """Settings of the tuning of an LLM's weights."""

    batch_size: ClassVar[int] = 8  # rows per step: those of the few-shot rows make dozens of steps

    lora_rank: Count | None
    epochs: CountOrZero
    learning_rate: LearningRate


class DropLayersConfig(Block):
    """Number of layers to drop, and the criterion of their importance."""

    # The first and the last layers stay, as in Shortened LLaMA (arXiv 2402.02834): an LLM cannot do without them.
    spare_first: ClassVar[int] = 4
    spare_last: ClassVar[int] = 2

    importance: Literal["loss", "taylor", "random"]
    layers: CountOrZero


def _not_twice_in_a_row(steps: tuple[str, ...]) -> tuple[str, ...]:
    for step, following in pairwise(steps):
        if step == following:
            raise ValueError(f"names {step} twice in a row: name it once, and raise its own settings instead")
    return steps


class BaseModelConfig(Block):
    """Steps and their settings; packages may add fields for steps of theirs."""

    steps: Annotated[
        tuple[Annotated[str, AfterValidator(STEPS.require)], ...],
        Field(min_length=1),
        AfterValidator(_not_twice_in_a_row),
    ]
    tokens_per_batch: Resource[Count]
    seed: Seed
    drop_layers: DropLayersConfig
    recovery: TuningConfig
