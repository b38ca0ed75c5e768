"""Settings of what is done to a base LLM."""

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from kedro_provenance.parameters import Block, Resource
from reclora_kedro.extensions import Registry, added_fields, block_with
from reclora_kedro.parameters import Count, CountOrZero, LearningRate, NonNegative, Seed, Share

STEPS = Registry("reclora_extras.base_models.steps")
"""Modules for the values of ``base_model.steps``, each with one subclass of `reclora_extras.base_models.steps.Step`."""
Extended: Any = block_with(added_fields("base_model"))


class QualityConfig(Block):
    """Which texts are good enough to learn from."""

    min_words: Count
    max_repetition: Share
    drop_perplexing: Share
    max_similarity: Annotated[Share, Field(gt=0)]


class CorpusConfig(Block):
    """The texts that an LLM is pretrained on."""

    selection: Literal["uniform", "quality"]
    events_per_text: Count
    held_out_items: Annotated[Share, Field(gt=0)]
    max_texts: Count
    candidates_per_text: Count
    max_tokens: Annotated[Count, Field(ge=2)]


class TuningConfig(Block):
    """How weights of an LLM are tuned."""

    lora_rank: Count | None
    epochs: CountOrZero
    batch_size: Count
    learning_rate: LearningRate


class ImportanceConfig(Block):
    """How the importance of weights is measured, and how an LLM recovers from the loss of those that matter least."""

    importance: Literal["loss", "taylor", "random"]
    calibration_prompts: Count
    recovery: TuningConfig


class PruneConfig(ImportanceConfig):
    """Which share of the heads and channels of every layer goes."""

    importance: Literal["taylor", "random"]
    ratio: Annotated[Share, Field(le=0.9)]


class DropLayersConfig(ImportanceConfig):
    """How many layers go, and which may not."""

    layers: CountOrZero
    spare_first: CountOrZero
    spare_last: CountOrZero


class DistillConfig(Block):
    """The student, and what it learns from its teacher."""

    layers: Count
    blocks: Count
    cosine_weight: NonNegative
    distance_weight: NonNegative
    block_answer_weight: NonNegative
    tuning: TuningConfig


def _not_twice_in_a_row(steps: tuple[str, ...]) -> tuple[str, ...]:
    # A step may come again after another one, as pretraining does after pruning.
    for step, following in pairwise(steps):
        if step == following:
            raise ValueError(f"names {step} twice in a row: name it once, and raise its own settings instead")
    return steps


class BaseModelConfig(Extended):
    """The steps that are taken, and the settings of each; packages may add fields for steps of theirs."""

    steps: Annotated[
        tuple[Annotated[str, AfterValidator(STEPS.require)], ...],
        Field(min_length=1),
        AfterValidator(_not_twice_in_a_row),
    ]
    variant: str | None
    tokens_per_batch: Resource[Count]
    seed: Seed
    quality: QualityConfig
    corpus: CorpusConfig
    pretrain: TuningConfig
    prune: PruneConfig
    drop_layers: DropLayersConfig
    distill: DistillConfig
