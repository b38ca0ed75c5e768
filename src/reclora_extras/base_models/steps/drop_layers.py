"""Dropping of layers, and a recovery, see `dropping.drop_layers`."""

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
        """See `Step.remaining_layers`; raise ValueError for an LLM of no architecture in `dropping.ARCHITECTURES`."""
        from reclora_extras.base_models.dropping import ARCHITECTURES, droppable

        kind, own = model.config.get_text_config().model_type, config.drop_layers
        if kind not in ARCHITECTURES:
            raise ValueError(
                f"base_model.steps drops layers of the base LLM, which is a {kind}; expected one of "
                f"{', '.join(ARCHITECTURES)}: choose another `source` of the catalog entry `base_llm`, or other steps."
            )
        if own.layers > (may_go := len(droppable(layers, own))):
            raise ValueError(
                f"base_model.drop_layers.layers is {own.layers}, but of {layers} layers of the base LLM only {may_go} "
                f"may be dropped, because the first {own.spare_first} and the last {own.spare_last} stay: lower it."
            )
        return layers - own.layers

    @staticmethod
    def take(llm: LanguageModel, material: Material, config: BaseModelConfig) -> tuple[LanguageModel, Account]:
        """See `Step.take`: the rest is tuned to read and answer prompts of the training split."""
        from reclora_extras.base_models import dropping, tuning

        smaller = dropping.drop_layers(llm, dropping.layer_importances(llm, material, config), config.drop_layers)
        prompts, account = material.few_shot, {"num_hidden_layers": smaller.model.config.num_hidden_layers}
        losses = tuning.prompt_losses(prompts, material.answers)
        recovered, tuned = tuning.tune(
            smaller, prompts.lengths, losses, config.recovery, config.tokens_per_batch, config.seed
        )
        return recovered, account | tuned
