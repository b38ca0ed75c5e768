"""Put a configured adapter on a base LLM, and load a saved one."""

from typing import Any

import torch
from peft import PeftModel, get_peft_model
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from reclora_kedro.adapters.reclora import RecLoraConfig
from reclora_kedro.adapters.reclora.config import Composition, GateInput, StateNorm


class AdapterConfig(BaseModel):
    """Sizes and routing of an adapter, as parameters; the lens states bring their own width."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_meta_loras: int = Field(gt=0, description="number of meta-LoRAs; 1 is one LoRA shared by all users")
    r: int = Field(gt=0, description="rank of each meta-LoRA")
    lora_alpha: float = Field(gt=0, description="the update is scaled by lora_alpha / r")
    target_modules: tuple[str, ...] = Field(min_length=1, description="linear layers to adapt, by name")
    last_layers: int | None = Field(
        gt=0, description="how many of the LLM's last layers are adapted, at most all; null: all"
    )
    composition: Composition = Field(description="product_of_sums (rank r) or sum_of_products (rank N·r)")
    gate_input: GateInput = Field(description="lens state that the gates read")
    gate_hidden_dim: int = Field(gt=0, description="width of each gate's hidden layer")
    gate_dropout: float = Field(ge=0, lt=1, description="dropout rate inside the gates")
    state_norm: StateNorm = Field(
        description="how gates normalise lens states: standard (over the few-shot rows) or layer (a LayerNorm of each)"
    )
    temperature: float = Field(gt=0, description="softmax temperature of the gates")


def new_adapter(model: Any, config: AdapterConfig, lens_states: Tensor, seed: int) -> PeftModel:
    """The base LLM with a fresh, trainable adapter; it still scores exactly as the base LLM does.

    Args:
        model: a causal LM.
        config: sizes and routing.
        lens_states: states of the rows to learn from, which the gates standardise by, shape (rows, lens_dim).
        seed: of the initial weights.

    Raises:
        ValueError: a name in ``target_modules`` is no layer of the base LLM.
    """
    missing = [
        name for name in config.target_modules if not any(key.endswith(name) for key, _ in model.named_modules())
    ]
    if missing:
        linear = {key.rsplit(".", 1)[-1] for key, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
        raise ValueError(
            f"adapter.target_modules names {', '.join(missing)}, which the base LLM does not have; "
            f"its linear layers are {', '.join(sorted(linear))}."
        )
    layers = model.config.get_text_config().num_hidden_layers
    settings = config.model_dump(exclude={"last_layers"}) | {
        "target_modules": list(config.target_modules),
        "layers_to_transform": list(range(layers))[-config.last_layers :] if config.last_layers else None,
    }
    torch.manual_seed(seed)
    adapted = get_peft_model(model, RecLoraConfig(task_type="CAUSAL_LM", lens_dim=lens_states.shape[1], **settings))
    adapted.standardize_states(lens_states)
    return adapted


def load_adapter(model: Any, folder: str) -> PeftModel:
    """The base LLM with a saved adapter, frozen and in eval mode."""
    return PeftModel.from_pretrained(model, folder).eval()
