"""What is written of an adapter besides its weights: what it was trained on, and the folders of users' LoRAs."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from kedro_provenance.files.digests import digest

LONGEST_NAME = 200  # of a folder, in characters: file systems take 255 bytes


@dataclass
class TrainedOn:
    """What an adapter was trained on; part of PEFT's ``adapter_config.json``."""

    base_llm: dict[str, Any] | None = field(default=None, metadata={"help": "name and digests of the base LLM"})
    gate_input: str | None = field(default=None, metadata={"help": "name of what the gates were trained to read"})
    gate_dim: int | None = field(default=None, metadata={"help": "width of the gates' inputs, if there are gates"})


def user_folder(user_id: Any) -> str:
    """Return the folder name of a user's LoRA: the id, percent-encoded where necessary and cut if too long."""
    name = f"user_{quote(str(user_id), safe='')}"
    return name if len(name) <= LONGEST_NAME else f"{name[:160]}-{digest(name)}"
