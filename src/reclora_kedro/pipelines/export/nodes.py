"""Nodes of the export pipeline."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from reclora_kedro.adapters.registry import ExportConfig
from reclora_kedro.finetuning.config import VariantConfig
from reclora_kedro.history.log import InteractionLog

if TYPE_CHECKING:
    from torch import Tensor

    from reclora_kedro.adapters.lora import UserLoras
    from reclora_kedro.lens.base import Lens
    from reclora_kedro.llm.language_model import LanguageModel

logger = logging.getLogger(__name__)

SERVER_NOTES = {
    "none": "",
    "average": "Scores are of the mean of two logits (blend: average): a server must take the mean of the lens's logit "
    "and the LLM's logit of the answer. The LoRAs alone don't hold the lens's.",
}
"""Instructions, by blend, for a server that loads only an exported adapter."""


def compute_user_states(adapter: str, log: InteractionLog, lens: Lens, config: ExportConfig) -> dict[str, Tensor]:
    """Compute the current lens states of the chosen users, if their LoRAs can be exported."""
    import torch

    from reclora_kedro.adapters.methods import require_one_lora_per_user, saved_config
    from reclora_kedro.lens import states

    require_one_lora_per_user(saved_config(adapter))
    index = log.choose_users(config.users, config.most_active)
    return {"user_index": torch.from_numpy(index), "user": states.user_states(lens, log, index)}


def export_adapters(
    base_llm: LanguageModel, adapter: str, user_states: dict[str, Tensor], log: InteractionLog, variant: VariantConfig
) -> tuple[UserLoras, list[dict[str, Any]]]:
    """Return the users' LoRAs, to be written, and a table of them."""
    from reclora_kedro.adapters.methods import load_adapter, user_loras

    gate_inputs = user_states["user"].to(base_llm.device)
    adapted = load_adapter(base_llm.model, adapter, "user", gate_inputs.shape[1])
    user_ids = log.users["user_id"][user_states["user_index"].tolist()].to_list()
    if note := SERVER_NOTES[variant.blend]:
        logger.warning(note)
    loras = user_loras(adapted, gate_inputs, user_ids, note)
    return loras, loras.table()
