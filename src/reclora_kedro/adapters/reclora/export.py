"""Export of users' LoRAs from a personalized one, as ordinary PEFT checkpoints that any LoRA server loads."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors.torch import save
from torch import Tensor

from reclora_kedro.adapters.base_llm import describe_base_llm
from reclora_kedro.adapters.lora import PEFT_PREFIX, Lora, user_folder
from reclora_kedro.adapters.reclora.config import RecLoraConfig
from reclora_kedro.adapters.reclora.layer import RecLoraLayer
from reclora_kedro.progress import Progress

USERS_AT_ONCE = 32  # users whose LoRAs stand in memory at once
COMMON = ("r", "lora_alpha", "target_modules", "exclude_modules", "layers_to_transform")  # to PEFT's LoRA and ours


@dataclass(frozen=True)
class UserLoras:
    """LoRAs of several users, ready to be written."""

    user_ids: list[Any]
    layers: dict[str, RecLoraLayer]  # the adapted layers, by their path in the base LLM
    weights: Tensor  # gate weights per layer and user, shape (layers, users, N)
    adapter_name: str
    adapter: RecLoraConfig
    dtype: torch.dtype  # type of the base LLM, in which the LoRAs are written
    note: str  # further instructions for servers besides loading the LoRAs; empty for none

    @property
    def config(self) -> LoraConfig:
        return lora_config(self.adapter)

    @property
    def folders(self) -> list[str]:
        return [user_folder(user_id) for user_id in self.user_ids]

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

    def save(self, folder: Path, before: Path | None = None) -> None:
        """Write a README.md and a PEFT checkpoint per user; LoRAs unchanged since the export `before` are linked."""
        config = json.dumps(self.config.to_dict(), default=sorted, indent=2, sort_keys=True).encode()
        with Progress("export", len(self.user_ids), "users") as progress:
            for start in range(0, len(self.user_ids), USERS_AT_ONCE):
                users = slice(start, start + USERS_AT_ONCE)
                for name, content in zip(self.folders[users], self.files(users), strict=True):
                    (folder / name).mkdir(parents=True)
                    for file, data in (("adapter_model.safetensors", content), ("adapter_config.json", config)):
                        _write(folder / name / file, data, before / name / file if before else None)
                    progress.update()
        (folder / "README.md").write_text(self.readme(), encoding="utf-8")

    def files(self, users: slice) -> Iterator[bytes]:
        """Yield each user's safetensors file; their common header is serialised once."""
        tensors = self.tensors(users)
        first = save({name: factors[0].contiguous() for name, factors in tensors.items()}, {"format": "pt"})
        header = first[: 8 + int.from_bytes(first[:8], "little")]
        entries = json.loads(header[8:])
        in_order = sorted(tensors, key=lambda name: entries[name]["data_offsets"])
        bodies = torch.cat([tensors[name].flatten(1) for name in in_order], dim=1)
        for body in bodies.view(torch.uint8).numpy():
            yield header + body.tobytes()

    def readme(self) -> str:
        lines = [
            "# LoRAs of single users",
            "",
            f"{len(self.user_ids)} ordinary PEFT LoRA checkpoints of rank {self.config.r}, one folder per user, for "
            f"the base LLM {(self.adapter.base_llm or {}).get('name', self.config.base_model_name_or_path)}.",
            "They hold what was known of the users when they were written.",
        ]
        if self.note:
            lines += ["", self.note]
        return "\n".join(lines) + "\n"


def _write(file: Path, content: bytes, before: Path | None) -> None:
    if before and before.is_file() and before.read_bytes() == content:
        file.hardlink_to(before)
    else:
        file.write_bytes(content)


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
    return UserLoras(user_ids, layers, weights.expand(len(layers), -1, -1), name, config, adapted.dtype, note)


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
        exclude_modules=config.exclude_modules,
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
