"""Settings of trainings: of variants, which are adapters, their privacy and further training, and of item encoders."""

from importlib.util import find_spec
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kedro_provenance.parameters import Block, Resource
from reclora_kedro.adapters import registry
from reclora_kedro.extensions import ExtensionBlock
from reclora_kedro.extras import install_line
from reclora_kedro.finetuning.examples import ObjectiveField
from reclora_kedro.lens.config import GateInput
from reclora_kedro.llm import Blend
from reclora_kedro.parameters import Count, EachOnce, LearningRate, NonNegative, Positive, Seed


class PrivacyConfig(ExtensionBlock):
    """Privacy of the users of the few-shot rows: the block `training.privacy`.

    With it, the last weights are kept instead of those of the best validation: validation rows are of the same users,
    and a choice by them has no noise.
    """

    kind: Literal["none", "user_level_dp"] = "none"
    max_epsilon: Positive | None = 8.0
    delta: Annotated[Positive, Field(lt=1)] = 1.0e-3
    noise_multiplier: NonNegative = 1.0
    clipping_norm: Positive = 1.0
    users_per_round: Count = 64

    @property
    def is_on(self) -> bool:
        return self.kind != "none"

    def require_ready(self) -> None:
        """Raise ImportError if Opacus, the accountant, is needed and not installed."""
        if self.is_on and find_spec("opacus") is None:
            raise ImportError(
                "training.privacy needs Opacus, whose accountant measures the privacy that is spent: "
                f"`{install_line('privacy')}`, or set training.privacy.kind to none."
            )


class TrainingConfig(Block):
    """Settings of the training of an adapter."""

    epochs: Count
    batch_size: Count
    learning_rate: LearningRate
    rows_per_validation: Count
    rows_per_checkpoint: Resource[Count]
    tokens_per_batch: Resource[Count]
    gradient_checkpointing: Resource[bool]
    processes: Resource[Count]
    objective: ObjectiveField
    privacy: PrivacyConfig = PrivacyConfig()
    seed: Seed


class AdapterContinuationConfig(Block):
    """Settings of the incremental training of an adapter."""

    replay: ClassVar[float] = 0.5  # share of old rows with the safeguard `replay`, beside as many new ones
    validation: ClassVar[int] = 200  # rows that choose among the safeguards, and the adapter as it was

    few_shot: Count
    learning_rate: LearningRate
    safeguard: Annotated[tuple[Literal["none", "replay", "proximal", "short_term"], ...], Field(min_length=1), EachOnce]


class EncoderTuningConfig(Block):
    """Settings of the tuning of an item encoder."""

    window: ClassVar[int] = 3  # two likes of a user at most this many likes apart make a pair
    temperature: ClassVar[float] = 0.05  # divisor of the cosines, as SimCSE's (arXiv 2104.08821)
    patience: ClassVar[int] = 2  # validations without a better AUC before tuning stops

    base: Literal["sentence_encoder", "base_llm"]
    layers: Count | None
    lora_rank: Count | None
    batch_size: Annotated[Count, Field(ge=2)]
    max_steps: Count
    learning_rate: LearningRate
    steps_per_validation: Count
    seed: Seed


class VariantConfig(Block):
    """Settings of a variant: its prompts' fields, its gate input, its adapter and its training."""

    history: str
    gate_input: GateInput = "target"
    blend: Blend = "none"
    adapter: registry.Settings
    training: TrainingConfig

    @model_validator(mode="after")
    def _gates_read_their_input(self) -> Self:
        registry.require_gate_input(self.adapter, self.gate_input)
        return self

    @model_validator(mode="after")
    def _adapter_keeps_privacy(self) -> Self:
        method = registry.adapter_method(self.adapter.method)
        if self.training.privacy.is_on and method.keeps_statistics(self.adapter):
            raise ValueError(
                "training.privacy hides users' gradients in noise, but the adapter would also hold means of the "
                "few-shot rows: use the method reclora, and set adapter.gate_norm to layer, or num_meta_loras to 1"
            )
        return self
