"""Nodes of the export pipeline."""

from typing import Any, Self

import numpy as np
import polars as pl
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from reclora_kedro.adapters.export import UserLoras, require_one_lora_a_user, user_loras
from reclora_kedro.adapters.personalized import load_adapter, saved_config
from reclora_kedro.histories.sequences import Sequences
from reclora_kedro.lens.base import load_lens
from reclora_kedro.lens.users import choose_users, user_states
from reclora_kedro.llm.language_model import LanguageModel


class ExportConfig(BaseModel):
    """Whose LoRAs are written, and out of which adapter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    variant: str = Field(min_length=1, description="the adapter, by its name under finetuning.variants")
    users: tuple[int | str, ...] | None = Field(description="ids of the users; null: the most active ones")
    most_active: int | None = Field(gt=0, description="how many of the most active users, where users is null")

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if (self.users is None) == (self.most_active is None) or self.users == ():
            raise ValueError(
                f"export.users is {self.users} and export.most_active is {self.most_active}: give at least one id "
                "under users, or a number as most_active, and set the other one to null"
            )
        return self


def compute_user_states(
    adapter: str,
    users: pl.DataFrame,
    sequences: dict[str, np.ndarray],
    item_embeddings: dict[str, np.ndarray],
    lens_config: dict[str, Any],
    lens_weights: dict[str, Tensor],
    config: ExportConfig,
) -> dict[str, Tensor]:
    """Lens states of the chosen users as they are now, if their LoRAs can be exported."""
    require_one_lora_a_user(saved_config(adapter))
    events = Sequences(**sequences)
    index = choose_users(users, events, config.users, config.most_active)
    states = user_states(load_lens(lens_config, lens_weights), events, item_embeddings["embeddings"], index)
    return {"user_index": torch.from_numpy(index), "user": states}


def export_adapters(
    base_llm: LanguageModel, adapter: str, user_states: dict[str, Tensor], users: pl.DataFrame
) -> tuple[UserLoras, list[dict[str, Any]]]:
    """The users' LoRAs, to be written, and a table of them."""
    states = user_states["user"].to(base_llm.device)
    adapted = load_adapter(base_llm.model, adapter, lens_dim=states.shape[1])
    loras = user_loras(adapted, states, users["user_id"][user_states["user_index"].tolist()].to_list())
    return loras, loras.table()
