"""Pruning of heads and channels, and a recovery, see `pruning.prune`."""

from typing import Any

from reclora_extras.base_models import pruning
from reclora_extras.base_models.config import BaseModelConfig
from reclora_extras.base_models.steps import Account, Material, Step
from reclora_kedro.llm.language_model import LanguageModel


class Prune(Step):
    """Pruning of heads and channels."""

    @staticmethod
    def remaining_layers(model: Any, layers: int, config: BaseModelConfig) -> int:
        """See `Step.remaining_layers`: all of them."""
        pruning.require_prunable(model)
        return layers

    @staticmethod
    def take(llm: LanguageModel, material: Material, config: BaseModelConfig) -> tuple[LanguageModel, Account]:
        """See `Step.take`."""
        return pruning.shrink(pruning.importances, pruning.prune, llm, material, config.prune, config)
