"""Ordinary LoRAs in PEFT's format."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from kedro_provenance.errors import MismatchError
from kedro_provenance.files.digests import digest

if TYPE_CHECKING:
    from peft import LoraConfig

LONGEST_NAME = 200  # of a folder, in characters: file systems take 255 bytes
PEFT_PREFIX = "base_model.model."  # the path of a layer in PEFT's names of tensors


def user_folder(user_id: Any) -> str:
    """Return the folder name of a user's LoRA: the id, percent-encoded where necessary and cut if too long."""
    name = f"user_{quote(str(user_id), safe='')}"
    return name if len(name) <= LONGEST_NAME else f"{name[:160]}-{digest(name)}"


@dataclass(frozen=True)
class Lora:
    """A LoRA outside any model."""

    config: "LoraConfig"
    factors: dict[str, tuple[Tensor, Tensor]]  # A, (r, in), and B, (out, r), by the path of a layer in the base LLM

    @classmethod
    def load(cls, folder: Path) -> Self:
        from peft import LoraConfig

        return cls.from_tensors(LoraConfig.from_pretrained(folder), load_file(folder / "adapter_model.safetensors"))

    @classmethod
    def from_tensors(cls, config: "LoraConfig", tensors: Mapping[str, Tensor]) -> Self:
        """Return the LoRA from tensors by PEFT's names, such as ``base_model.model.….q_proj.lora_A.weight``."""
        paths = [name.removeprefix(PEFT_PREFIX).removesuffix(".lora_A.weight") for name in tensors if "lora_A" in name]
        parts = {path: [tensors[f"{PEFT_PREFIX}{path}.lora_{name}.weight"].cpu() for name in "AB"] for path in paths}
        return cls(config, {path: (A, B) for path, (A, B) in parts.items()})

    @classmethod
    def from_updates(cls, config: "LoraConfig", updates: Mapping[str, Tensor], rank: int) -> Self:
        """Return the LoRA nearest to updates of layers, (out, in) by path; smaller layers are padded with zeros."""
        factors = {}
        for path, update in updates.items():
            U, values, V = torch.linalg.svd(update.double(), full_matrices=False)
            root = values[:rank].sqrt()
            A, B = (root[:, None] * V[:rank]).float(), (U[:, :rank] * root).float()
            missing = rank - len(root)
            factors[path] = functional.pad(A, (0, 0, 0, missing)), functional.pad(B, (0, missing))
        return cls(replace(config, r=rank, lora_alpha=rank), factors)

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {
            f"{PEFT_PREFIX}{path}.lora_{name}.weight": factor.contiguous()
            for path, pair in self.factors.items()
            for name, factor in zip("AB", pair, strict=True)
        }

    def updates(self) -> dict[str, Tensor]:
        """Return the update of each layer's weights by path: float32, shape (out, in)."""
        scaling = self.config.lora_alpha / self.config.r
        return {path: scaling * B.float() @ A.float() for path, (A, B) in self.factors.items()}

    def save(self, folder: Path) -> None:
        """Write a folder for ``PeftModel.from_pretrained``."""
        folder.mkdir(parents=True, exist_ok=True)
        self.config.save_pretrained(folder)
        save_file(self.tensors, folder / "adapter_model.safetensors", {"format": "pt"})


def load_user_loras(folder: Path, user_ids: list[Any]) -> dict[str, Lora]:
    """Load exported LoRAs of users by folder name; raise MismatchError for a user without one."""
    names = {user_id: user_folder(user_id) for user_id in user_ids}
    if missing := [str(user_id) for user_id, name in names.items() if not (folder / name).is_dir()]:
        raise MismatchError(
            f"{folder} has no LoRA of the users {', '.join(missing)}: run --pipelines export with the `export` that "
            "merging reads.",
            "user_adapters",
        )
    return {name: Lora.load(folder / name) for name in names.values()}
