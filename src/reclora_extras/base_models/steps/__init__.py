"""Steps of a base LLM's preparation, one file per step, and their interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reclora_extras.base_models.config import STEPS, BaseModelConfig

if TYPE_CHECKING:
    from reclora_extras.base_models.material import Account, Material
    from reclora_kedro.llm.language_model import LanguageModel

AS_IT_CAME = "as it came"  # the step of a report before any was taken


class Step:
    """A step that ``base_model.steps`` may name: each module has one subclass."""

    @staticmethod
    def remaining_layers(model: Any, layers: int, config: BaseModelConfig) -> int:
        """Return the number of layers after the step; raise ValueError for an LLM or settings that do not fit it.

        The model is the base LLM before all steps, possibly on the meta device; `layers` are those before this step.
        """
        return layers

    @staticmethod
    def take(llm: LanguageModel, material: Material, config: BaseModelConfig) -> tuple[LanguageModel, Account]:
        """Return the changed LLM, and numbers for the report; raise ValueError for material that does not fit."""
        # Not abstract for mypy, as the registry looks subclasses up by this class.
        raise NotImplementedError


def load_step(name: str) -> type[Step]:
    """Return a step by its name or the dotted path of its module."""
    return STEPS.load_class(name, Step)
