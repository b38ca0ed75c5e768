"""Dropping of layers, and a recovery, see `pruning.drop_layers`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reclora_extras.base_models.config import BaseModelConfig
from reclora_extras.base_models.steps import Step

if TYPE_CHECKING:
    from reclora_extras.base_models.material import Account, Material
    from reclora_kedro.llm.language_model import LanguageModel


class DropLayers(Step):
    """Dropping of layers."""

    @staticmethod
    def remaining_layers(model: Any, layers: int, config: BaseModelConfig) -> int:
        from reclora_extras.base_models import pruning

        pruning.require_prunable(model)
        pruning.require_droppable(layers, config.drop_layers)
        return layers - config.drop_layers.layers

    @staticmethod
    def take(llm: LanguageModel, material: Material, config: BaseModelConfig) -> tuple[LanguageModel, Account]:
        from reclora_extras.base_models import pruning

        return pruning.shrink(pruning.layer_importances, pruning.drop_layers, llm, material, config.drop_layers, config)
