"""Steps of a base LLM's preparation, one file per step, and their interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from reclora_extras.base_models.config import STEPS, BaseModelConfig
from reclora_kedro.llm.prompts import PromptFormat

if TYPE_CHECKING:
    from reclora_kedro.llm.answer_model import AnswerModel
    from reclora_kedro.llm.language_model import LanguageModel
    from reclora_kedro.llm.prompt_set import PromptSet

AS_IT_CAME = "as it came"  # the step of a report before any was taken
Account = dict[str, Any]  # numbers that a step reports, by name


@dataclass(frozen=True)
class Material:
    """Data that steps learn from and are measured by."""

    descriptions: list[str]  # texts of some items, whose perplexity is measured
    few_shot: PromptSet  # prompts of the training split, to calibrate, recover and distill by
    validation: PromptSet  # prompts of the validation split
    answers: PromptFormat  # tokens of the two answers
    # Returns the base LLM with a trained adapter, always the same; the first call may change the LLM.
    teacher: Callable[[], AnswerModel] | None = None


class Step:
    """A step that ``base_model.steps`` may name: each module has one subclass."""

    has_teacher: ClassVar[bool] = False  # whether it reads `Material.teacher`

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
