"""Training checkpoints, stored under a key of the training so that an interrupted run resumes."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from safetensors.torch import save as safetensors_bytes
from torch import Tensor
from torch.optim import Optimizer

from kedro_provenance.files.storage import is_remote, names_in, read, remove, remove_drafts, write_whole

logger = logging.getLogger(__name__)

KEPT = 2  # if the newest checkpoint is damaged, the one before it serves


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, JSON values, and the path or address of the file."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]
    file: str


class CheckpointStore:
    """The newest two checkpoints of a training, in a local folder or an object storage.

    A checkpoint is a safetensors file, with the JSON values as metadata, that is written atomically. Its name ends in
    a digest of its content, which reveals damaged files. `folder` may be an address such as ``s3://bucket/folder``,
    with options as in :mod:`kedro_provenance.files.storage`; the key of the training names a subfolder.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = CheckpointStore(folder, "a key")
        ...     _ = store.save(40, {"weights": torch.ones(2)}, {"rows": 320})
        ...     store.newest().values
        {'rows': 320}
    """

    def __init__(self, folder: str | Path, training: str, options: Mapping[str, Any] | None = None) -> None:
        self.folder = str(folder) if is_remote(folder) else str(Path(folder).absolute())
        self.training, self.options = training, options or {}

    def save(self, step: int, tensors: dict[str, Tensor], values: dict[str, Any]) -> str:
        """Write the checkpoint after `step` steps, remove all but the newest two, and return its path or address.

        With an OSError, such as on a full disk, earlier checkpoints stay.
        """
        metadata = {"values": json.dumps(values, allow_nan=False)}
        content = safetensors_bytes({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)
        name = f"step-{step:08d}-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
        file = f"{self.folder}/{self.training}/{name}"
        try:
            write_whole(file, content, self.options)
        except OSError as error:
            error.add_note(f"The checkpoint {file} could not be written. Earlier checkpoints are intact.")
            raise
        names = self._names(self.training)
        earlier = [other for other in names if other < f"step-{step:08d}"]
        for outdated in set(names) - {name, *earlier[: KEPT - 1]}:
            remove(f"{self.folder}/{self.training}/{outdated}", self.options)
        return file

    def newest(self) -> Checkpoint | None:
        """Return the newest intact checkpoint, or None; damaged files are skipped with a warning."""
        remove_drafts(f"{self.folder}/{self.training}")
        names = self._names(self.training)
        for name in names:
            file = f"{self.folder}/{self.training}/{name}"
            content = read(file, self.options)
            if hashlib.sha256(content).hexdigest()[:16] != name.removesuffix(".safetensors").rpartition("-")[2]:
                logger.warning("%s is damaged (its content does not match its digest) and is skipped.", file)
                continue
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            return Checkpoint(load(content), json.loads(header["__metadata__"]["values"]), file)
        if not names and any(self._names(other) for other in names_in(self.folder, self.options)):
            logger.warning(
                "The checkpoints in %s belong to a training with other settings, code or inputs: this one starts from "
                "the beginning.",
                self.folder,
            )
        return None

    def _names(self, training: str) -> list[str]:
        names = names_in(f"{self.folder}/{training}", self.options)
        return sorted((name for name in names if name.startswith("step-")), reverse=True)


def training_tensors(
    weights: Mapping[str, Tensor], optimizer: Optimizer, **groups: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Collect the tensors of weights, their optimiser and further groups by ``group/name``, for a checkpoint."""
    states = {f"optimizer.{name}": optimizer.state[tensor] for name, tensor in weights.items()}
    groups = {"weights": weights, **groups, **states}
    return {f"{group}/{name}": tensor.detach() for group, tensors in groups.items() for name, tensor in tensors.items()}


@torch.no_grad()
def restore_training(
    checkpoint: Checkpoint, weights: Mapping[str, Tensor], optimizer: Optimizer
) -> dict[str, dict[str, Tensor]]:
    """Restore weights and optimiser from :func:`training_tensors`, and return the further groups."""
    groups: dict[str, dict[str, Tensor]] = {}
    for path, tensor in checkpoint.tensors.items():
        group, _, name = path.partition("/")
        groups.setdefault(group, {})[name] = tensor
    for name, tensor in groups.pop("weights").items():
        weights[name].copy_(tensor)
    states = {i: groups.pop(f"optimizer.{name}", {}) for i, name in enumerate(weights)}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    return groups


def random_states(device: torch.device) -> dict[str, Tensor]:
    states = {"torch": torch.get_rng_state()}
    return states | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else states


def restore_random_states(states: dict[str, Tensor], device: torch.device) -> None:
    """Set the random states that :func:`random_states` returned."""
    torch.set_rng_state(states["torch"].cpu().clone())  # PyTorch crashes on a view into a larger tensor
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"].cpu().clone(), device)
