"""LoRAs of users from a personalized one."""

from typing import Any

import torch
from peft import LoraConfig, PeftModel
from torch import Tensor

from reclora_kedro.adapters.lora import PEFT_PREFIX, UserLoras
from reclora_kedro.adapters.reclora.model import RecLoraConfig, RecLoraLayer, gate_entropy


def user_loras(adapted: PeftModel, user_states: Tensor, user_ids: list[Any], note: str) -> UserLoras:
    """Return the LoRA of each user under a personalized adapter; all gates are computed in one batch.

    With fixed weights α over the meta-LoRAs the adapter *is* a LoRA: of rank r for ``product_of_sums``, and for
    ``sum_of_products`` of rank N·r, or top_k·r if only top_k meta-LoRAs are kept. ValueError is raised for states,
    shape (users, gate_dim), of another width than the adapter's.
    """
    config, name, tuner = adapted.active_peft_config, adapted.active_adapter, adapted.base_model
    modules = tuner.model.named_modules()
    layers = {path: part for path, part in modules if isinstance(part, RecLoraLayer) and name in part.reclora_A}
    with torch.no_grad():
        weights = tuner.gate_weights(user_states)
    if weights is None:
        weights = torch.ones(1, len(user_ids), 1)
    weights = weights.expand(len(layers), -1, -1)  # shape (layers, users, N)
    entropy = gate_entropy(weights.transpose(0, 1)).tolist() if config.num_meta_loras > 1 else [None] * len(user_ids)

    @torch.no_grad()
    def tensors(users: slice) -> dict[str, Tensor]:
        loras = {}
        for (path, layer), own in zip(layers.items(), weights[:, users], strict=True):
            factors = lora_factors(layer.reclora_A[name], layer.reclora_B[name], own, config)
            for letter, factor in zip("AB", factors, strict=True):
                loras[f"{PEFT_PREFIX}{path}.lora_{letter}.weight"] = factor.to("cpu", adapted.dtype)
        return loras

    return UserLoras(
        user_ids=user_ids,
        config=lora_config(config),
        base_llm=(config.base_llm or {}).get("name", config.base_model_name_or_path),
        note=note,
        tensors=tensors,
        gate_entropy=entropy,
    )


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
