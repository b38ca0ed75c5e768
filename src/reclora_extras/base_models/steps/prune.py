"""Pruning of heads and channels, and a recovery, see `pruning.prune`."""

from typing import Any

from reclora_extras.base_models import pruning
from reclora_extras.base_models.config import BaseModelConfig
from reclora_extras.base_models.steps import Account, Material, Step
from reclora_extras.base_models.tuning import recover
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
        rows, own = (material.few_shot, material.answers), config.prune
        importance = pruning.importances(llm, *rows, own, config.tokens_per_batch, config.seed)
        smaller, account = pruning.prune(llm, importance, own)
        smaller, tuned = recover(smaller, *rows, own.recovery, config.tokens_per_batch, config.seed)
        return smaller, account | tuned
