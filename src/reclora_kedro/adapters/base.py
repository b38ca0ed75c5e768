"""The interface of an adapter method: a PEFT tuner and what the project needs to know about it."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from reclora_kedro.adapters.saved import TrainedOn

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from torch import Tensor

    from reclora_kedro.adapters.lora import UserLoras
    from reclora_kedro.adapters.tuner import PersonalizedConfig


class AdapterSettings(Protocol):
    """Settings of a method's adapters, the block ``adapter`` of a variant: a dataclass checked by pydantic."""

    method: str  # name of the method


class AdapterMethod:
    """A method of adapting a base LLM; this base class describes an unknown method without gates.

    A method is a module with an instance of a subclass as ``METHOD``. PEFT creates, saves and loads its adapters, so
    its configuration and tuner are in PEFT's mappings, once `register` has been called. The configuration is a
    `TrainedOn` with the field ``method``. Commands read settings of methods in a second: torch and PEFT, which take
    four, are imported where they are used, PEFT by `register`.
    """

    name: ClassVar[str]  # value of ``adapter.method``
    settings: ClassVar[type]  # its `AdapterSettings`
    measures: ClassVar[tuple[str, ...]] = ()
    """Columns of the training log that :meth:`measure` returns at each validation."""
    gate_input: ClassVar[str] = ""  # prefix of the names of the gate inputs that its adapters read
    exports_loras: ClassVar[bool] = False  # whether its adapters yield one LoRA per user, see :meth:`user_loras`

    def register(self) -> None:
        """Make PEFT know its adapters, unless importing its module has done so."""

    def require(self, model: Any, settings: Any) -> None:
        """Raise ValueError for settings that do not fit a base LLM, whose weights may be on the meta device."""

    def peft_config(self, model: Any, settings: Any, trained_on: TrainedOn) -> PeftConfig:
        """Return the PEFT configuration of a fresh adapter, which must not change the base LLM's outputs."""
        raise NotImplementedError

    def prepare(self, adapted: PeftModel, gate_inputs: Tensor) -> None:
        """Let a fresh adapter read the gate inputs of the training samples, shape (samples, gate_dim)."""

    def keeps_statistics(self, settings: Any) -> bool:
        """Whether `prepare` stores statistics of the samples in an adapter with these settings."""
        return False

    def has_gates(self, config: Any) -> bool:
        """Whether an adapter with this PEFT configuration, or with these settings, reads gate inputs."""
        return False

    def context(self, adapted: PeftModel, gate_inputs: Tensor | None) -> AbstractContextManager[None]:
        """Personalize forward and backward passes in the context by gate inputs, (batch, gate_dim), if any."""
        return nullcontext()

    def measure(self, adapted: PeftModel, gate_inputs: Tensor) -> dict[str, float]:
        """Measure an adapter at a validation, on samples with gate inputs (samples, gate_dim)."""
        return {}

    def gate_weights(self, adapted: PeftModel, gate_inputs: Tensor) -> Tensor | None:
        """Return the mean weights of all gates, shape (batch, parts); None without gates."""
        return None

    def user_loras(self, adapted: PeftModel, user_states: Tensor, user_ids: list[Any], note: str) -> UserLoras:
        """Return the LoRA of each user, whose lens states ``user`` the gates read, shape (users, gate_dim)."""
        raise NotImplementedError


class PersonalizedMethod(AdapterMethod):
    """A method whose tuner is a `PersonalizedTuner`."""

    @abstractmethod
    def config_class(self) -> type[PersonalizedConfig]:
        """Import its tuner, which registers itself; return its PEFT configuration class, with its settings' fields."""

    def register(self) -> None:
        self.config_class()

    def require(self, model: Any, settings: Any) -> None:
        from reclora_kedro.adapters.base_llm import require_target_modules

        require_target_modules(model, settings.target_modules)

    def peft_config(self, model: Any, settings: Any, trained_on: TrainedOn) -> PersonalizedConfig:
        """Return the PEFT configuration of a fresh adapter; targets ``auto`` are the attention projections."""
        from reclora_kedro.adapters.base_llm import attention_projections

        values = asdict(settings) | asdict(trained_on)
        if settings.target_modules == "auto":
            values["target_modules"] = attention_projections(model)
        return self.config_class()(task_type="CAUSAL_LM", **values)

    def prepare(self, adapted: PeftModel, gate_inputs: Tensor) -> None:
        adapted.base_model.fit_gates(gate_inputs)

    def context(self, adapted: PeftModel, gate_inputs: Tensor | None) -> AbstractContextManager[None]:
        return adapted.base_model.gate_context(gate_inputs)
