"""Ordinary LoRAs in PEFT's format: single ones, and those of users, which any LoRA server loads."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save
from torch import Tensor

from reclora_kedro.adapters.saved import user_folder
from reclora_kedro.progress import Progress

if TYPE_CHECKING:
    from peft import LoraConfig

PEFT_PREFIX = "base_model.model."  # the path of a layer in PEFT's names of tensors


def with_lora(model: Any, rank: int | None) -> Any:
    """Return a model with a trainable LoRA of all its linear layers; the model itself if `rank` is None."""
    from peft import LoraConfig, get_peft_model

    if rank is None:
        return model
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"))


USERS_AT_ONCE = 32  # users whose LoRAs stand in memory at once


@dataclass(frozen=True, kw_only=True)
class UserLoras:
    """LoRAs of several users under an adapter, ready to be written.

    ``tensors`` returns those of some users: per layer ``lora_A`` (users, rank, in) and ``lora_B`` (users, out, rank).
    """

    user_ids: list[Any]  # which also name the folders
    config: "LoraConfig"  # of each of these LoRAs
    base_llm: str  # its name
    note: str  # further instructions for servers besides loading the LoRAs; empty for none
    tensors: Callable[[slice], dict[str, Tensor]]
    gate_entropy: Sequence[float | None]  # 0 for a single meta-LoRA to 1 for a plain average; None without gates

    @property
    def folders(self) -> list[str]:
        return [user_folder(user_id) for user_id in self.user_ids]

    def table(self) -> list[dict[str, Any]]:
        """Return one record per user: user_id, folder, rank and gate_entropy."""
        columns = zip(self.user_ids, self.folders, self.gate_entropy, strict=True)
        return [
            {"user_id": user_id, "folder": folder, "rank": self.config.r, "gate_entropy": entropy}
            for user_id, folder, entropy in columns
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
            f"the base LLM {self.base_llm}.",
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
