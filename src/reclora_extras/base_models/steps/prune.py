"""Pruning of heads and channels, and a recovery, see `pruning.prune`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reclora_extras.base_models.config import BaseModelConfig
from reclora_extras.base_models.steps import Step

if TYPE_CHECKING:
    from reclora_extras.base_models.material import Account, Material
    from reclora_kedro.llm.language_model import LanguageModel


class Prune(Step):
    """Pruning of heads and channels."""

    @staticmethod
    def remaining_layers(model: Any, layers: int, config: BaseModelConfig) -> int:
        """See `Step.remaining_layers`: all of them."""
        from reclora_extras.base_models import pruning

        pruning.require_prunable(model)
        return layers

    @staticmethod
    def take(llm: LanguageModel, material: Material, config: BaseModelConfig) -> tuple[LanguageModel, Account]:
        from reclora_extras.base_models import pruning

        return pruning.shrink(pruning.importances, pruning.prune, llm, material, config.prune, config)
