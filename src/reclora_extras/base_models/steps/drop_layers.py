"""Dropping of layers, and a recovery, see `pruning.drop_layers`."""

from typing import Any

from reclora_extras.base_models import pruning
from reclora_extras.base_models.config import BaseModelConfig
from reclora_extras.base_models.steps import Account, Material, Step
from reclora_extras.base_models.tuning import recover
from reclora_kedro.llm.language_model import LanguageModel


class DropLayers(Step):
    """Dropping of layers."""

    @staticmethod
    def remaining_layers(model: Any, layers: int, config: BaseModelConfig) -> int:
        """See `Step.remaining_layers`."""
        pruning.require_prunable(model)
        pruning.require_droppable(layers, config.drop_layers)
        return layers - config.drop_layers.layers

    @staticmethod
    def take(llm: LanguageModel, material: Material, config: BaseModelConfig) -> tuple[LanguageModel, Account]:
        """See `Step.take`."""
        rows, own = (material.few_shot, material.answers), config.drop_layers
        importance = pruning.layer_importances(llm, *rows, own, config.tokens_per_batch, config.seed)
        smaller, account = pruning.drop_layers(llm, importance, own)
        smaller, tuned = recover(smaller, *rows, own.recovery, config.tokens_per_batch, config.seed)
        return smaller, account | tuned
