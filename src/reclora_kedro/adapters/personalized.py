"""LoRAs that differ from sample to sample, as adapter methods; PEFT is imported where it is needed."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from reclora_kedro.adapters.base import AdapterMethod, TrainedOn

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

    from reclora_kedro.adapters.tuner import PersonalizedConfig


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
