"""LoRAs of users from a personalized one, and an ordinary LoRA as an adapter of RecLoRA."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from torch import Tensor

from reclora_kedro.adapters.base_llm import describe_base_llm
from reclora_kedro.adapters.lora import PEFT_PREFIX, Lora
from reclora_kedro.adapters.reclora import RecLoraConfig  # whose import lets PEFT know the method
from reclora_kedro.adapters.reclora.layer import RecLoraLayer
from reclora_kedro.adapters.user_loras import UserLoras

COMMON = ("r", "lora_alpha", "target_modules", "layers_to_transform")  # to PEFT's LoRA and ours


@dataclass(frozen=True, kw_only=True)
class RecLoraUserLoras(UserLoras):
    """LoRAs of users whose meta-LoRAs are mixed by fixed gate weights."""

    layers: dict[str, RecLoraLayer]  # the adapted layers, by their path in the base LLM
    weights: Tensor  # gate weights per layer and user, shape (layers, users, N)
    adapter_name: str
    adapter: RecLoraConfig
    dtype: torch.dtype  # type of the base LLM, in which the LoRAs are written

    @torch.no_grad()
    def tensors(self, users: slice = slice(None)) -> dict[str, Tensor]:
        """Return the LoRAs of some users: per layer ``lora_A`` (users, rank, in), ``lora_B`` (users, out, rank)."""
        tensors = {}
        for (path, layer), weights in zip(self.layers.items(), self.weights[:, users], strict=True):
            A, B = layer.reclora_A[self.adapter_name], layer.reclora_B[self.adapter_name]
            for name, factors in zip("AB", lora_factors(A, B, weights, self.adapter), strict=True):
                tensors[f"base_model.model.{path}.lora_{name}.weight"] = factors.to("cpu", self.dtype)
        return tensors

    def table(self) -> list[dict[str, Any]]:
        """Return one record per user: user_id, folder, rank and gate_entropy.

        The entropy is the mean over the layers, as a share of log N: 1 for a plain average of the meta-LoRAs, 0 for a
        single one; null if N is 1.
        """
        N = self.weights.shape[-1]
        entropy = torch.special.entr(self.weights).sum(-1).mean(0) / math.log(max(N, 2))
        return [
            {"user_id": user_id, "folder": folder, "rank": self.config.r, "gate_entropy": share if N > 1 else None}
            for user_id, folder, share in zip(self.user_ids, self.folders, entropy.tolist(), strict=True)
        ]


def user_loras(adapted: PeftModel, user_states: Tensor, user_ids: list[Any], note: str) -> UserLoras:
    """Return the LoRA of each user under a personalized adapter; all gates are computed in one batch.

    With fixed weights α over the meta-LoRAs the adapter *is* a LoRA: of rank r for ``product_of_sums``, and for
    ``sum_of_products`` of rank N·r, or top_k·r if only top_k meta-LoRAs are kept.

    Raises:
        ValueError: the states, shape (users, gate_dim), have another width than the adapter's.
    """
    config = adapted.active_peft_config
    name = adapted.active_adapter
    tuner = adapted.base_model
    modules = tuner.model.named_modules()
    layers = {path: part for path, part in modules if isinstance(part, RecLoraLayer) and name in part.reclora_A}
    with torch.no_grad():
        weights = tuner.gate_weights(user_states)
    if weights is None:
        weights = torch.ones(1, len(user_ids), 1)
    return RecLoraUserLoras(
        user_ids=user_ids,
        config=lora_config(config),
        base_llm=(config.base_llm or {}).get("name", config.base_model_name_or_path),
        note=note,
        layers=layers,
        weights=weights.expand(len(layers), -1, -1),
        adapter_name=name,
        adapter=config,
        dtype=adapted.dtype,
    )


def adapter_of(model: Any, lora: Lora) -> PeftModel:
    """Add an ordinary LoRA as an adapter of the method RecLoRA, in eval mode."""
    config = RecLoraConfig(
        task_type="CAUSAL_LM",
        num_meta_loras=1,
        base_llm=describe_base_llm(model),
        **{name: getattr(lora.config, name) for name in COMMON},
    )
    adapted = get_peft_model(model, config)
    tensors: dict[str, Tensor] = {}
    for path, (A, B) in lora.factors.items():
        tensors |= {f"{PEFT_PREFIX}{path}.reclora_A": A[None], f"{PEFT_PREFIX}{path}.reclora_B": B[:, None]}
    set_peft_model_state_dict(adapted, tensors)
    return adapted.requires_grad_(False).eval()


def lora_config(config: RecLoraConfig) -> LoraConfig:
    """Return PEFT's configuration of a LoRA on the same layers, with a user's rank and the same scaling."""
    meta_loras = (config.top_k or config.num_meta_loras) if config.composition == "sum_of_products" else 1
    names = isinstance(config.target_modules, str)
    return LoraConfig(
        task_type=config.task_type,
        base_model_name_or_path=config.base_model_name_or_path,
        r=config.r * meta_loras,
        lora_alpha=config.lora_alpha * meta_loras,
        target_modules=config.target_modules,
        layers_to_transform=None if names else config.layers_to_transform,
        inference_mode=True,
    )


def lora_factors(A: Tensor, B: Tensor, weights: Tensor, config: RecLoraConfig) -> tuple[Tensor, Tensor]:
    """Return users' factors in a layer, (users, rank, in) and (users, out, rank), of A (N, r, in) and B (out, N, r)."""
    weights = weights.to(A)
    if config.composition == "product_of_sums":
        return torch.einsum("un,nri->uri", weights, A), torch.einsum("un,onr->uor", weights, B)
    if config.top_k is None:
        return A.flatten(0, 1).expand(len(weights), -1, -1), (B * weights[:, None, :, None]).flatten(2)
    weights, kept = weights.topk(config.top_k)
    up = B[:, kept].transpose(0, 1) * weights[:, None, :, None]
    return A[kept].flatten(1, 2), up.flatten(2)
