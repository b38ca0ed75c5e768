"""Put a configured adapter on a base LLM, and load a saved one."""

import hashlib
import json
from pathlib import Path
from typing import Any, Self

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from reclora_kedro.adapters.reclora import RecLoraConfig
from reclora_kedro.adapters.reclora.config import (
    Composition,
    GateInput,
    GateScope,
    Routing,
    StateNorm,
    check_lens_part,
    check_routing,
)

NOT_IN_OLD_ADAPTERS = ("state_norm", "gate_scope")


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
    gate_input: GateInput = Field(description="what the gates read: a lens state, or feedback")
    gate_hidden_dim: int = Field(gt=0, description="width of each gate's hidden layer")
    gate_dropout: float = Field(ge=0, lt=1, description="dropout rate inside the gates")
    state_norm: StateNorm = Field(
        description="how gates normalise lens states: standard (over the few-shot rows) or layer (a LayerNorm of each)"
    )
    gate_scope: GateScope = Field(
        default="per_projection", description="per_projection: a gate for each adapted layer; shared: one for all"
    )
    temperature: float = Field(gt=0, description="softmax temperature of the gates")
    routing: Routing = Field(default="soft", description="soft: all meta-LoRAs; top_k: those of the greatest weights")
    top_k: int | None = Field(default=None, description="meta-LoRAs that a sample uses; null unless routing is top_k")
    lens_prior: bool = Field(default=False, description="add the lens's logit, times a learned weight, to the LLM's")
    answer_temperature: float = Field(default=1.0, gt=0, description="the LLM's logit of the answer is divided by it")
    lens_average: bool = Field(
        default=False, description="score by the mean of the LLM's and the lens's logit; in training the LLM is alone"
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        check_routing(self.routing, self.top_k, self.num_meta_loras)
        check_lens_part(self.lens_prior, self.lens_average)
        return self


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
    settings["base_llm"] = describe_base_llm(model)
    torch.manual_seed(seed)
    adapted = get_peft_model(model, RecLoraConfig(task_type="CAUSAL_LM", lens_dim=lens_states.shape[1], **settings))
    adapted.standardize_states(lens_states)
    return adapted


def load_adapter(model: Any, folder: str, lens_dim: int | None = None) -> PeftModel:
    """The base LLM with a saved adapter, frozen and in eval mode.

    Args:
        model: the causal LM that the adapter was trained on, in any precision.
        folder: the adapter's folder.
        lens_dim: width of the lens states that it will be given; None leaves it unchecked.

    Raises:
        ValueError: the adapter is of an earlier version of this project, of another base LLM, or for lens states of
            another width.
    """
    saved = saved_config(folder)
    expected, found = saved.base_llm, describe_base_llm(model)
    if expected is not None and expected["fingerprint"] != found["fingerprint"]:
        raise ValueError(
            f"The adapter in {folder} was trained on the base LLM {expected['name']!r} (fingerprint "
            f"{expected['fingerprint'][:12]}), but got {found['name']!r} ({found['fingerprint'][:12]}): set `source` "
            "of the catalog entry `base_llm` to the former, or train again, `kedro run --pipelines finetuning`."
        )
    if lens_dim is not None and saved.num_meta_loras > 1 and saved.lens_dim != lens_dim:
        raise ValueError(
            f"The adapter in {folder} was trained with lens states of width {saved.lens_dim} (gate_input "
            f"{saved.gate_input}), but these are {lens_dim} wide: load the lens states of its own run, or train "
            "again, `kedro run --pipelines finetuning`."
        )
    return PeftModel.from_pretrained(model, folder).eval()


def saved_config(folder: str) -> RecLoraConfig:
    """The configuration of a saved adapter.

    Raises:
        ValueError: it was saved by an earlier version of this project.
    """
    saved = json.loads((Path(folder) / "adapter_config.json").read_text(encoding="utf-8"))
    missing = [name for name in NOT_IN_OLD_ADAPTERS if name not in saved]
    if missing:
        raise ValueError(
            f"The adapter in {folder} has no {' and no '.join(missing)}: it was saved by an earlier version of this "
            "project, whose gates are laid out differently. Train it again, `kedro run --pipelines finetuning`."
        )
    return PeftConfig.from_pretrained(folder)


def describe_base_llm(model: Any) -> dict[str, str]:
    """Name and fingerprint of a base LLM, by which an adapter knows the one that it was trained on.

    The fingerprint is a digest of the norms' weights, rounded to bfloat16: quantisation leaves them alone, so it is the
    same in any precision and folder. Where norms have none it is of the biases, and without those of sizes alone. Two
    models that share their norms, such as one and its copy with a merged LoRA, are not told apart.

    Args:
        model: a causal LM without an adapter.
    """
    vectors = {name: weights for name, weights in sorted(model.named_parameters()) if weights.dim() == 1}
    norms = {name: weights for name, weights in vectors.items() if name.endswith("weight")}
    digest = hashlib.sha256()
    for name, weights in (norms or vectors).items():
        rounded = weights.detach().to("cpu", torch.bfloat16).view(torch.int16).numpy()
        digest.update(name.encode() + rounded.astype("<i2").tobytes())
    text = model.config.get_text_config()
    digest.update(f"{text.model_type} {text.hidden_size} {text.num_hidden_layers}".encode())
    folder = Path(model.name_or_path)
    return {"name": folder.name if folder.is_absolute() else str(folder), "fingerprint": digest.hexdigest()}
