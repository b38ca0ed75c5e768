"""Checkpoints of a training, found again by what the training is made of."""

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

KEPT = 2  # a torn newest checkpoint falls back to the one before


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and everything else as JSON values."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]
    file: str
    """Path or address."""


class CheckpointStore:
    """The checkpoints of a training, in a folder that is local or in an object storage; the newest two are kept.

    A checkpoint is a safetensors file that carries the JSON values as its metadata. Its name ends in a digest of its
    content, so that a torn file is recognised. It is written whole or not at all: a run that is killed while it writes
    leaves the earlier ones as they were.

    Args:
        folder: where checkpoints lie, a path or an address such as ``s3://bucket/folder``; it need not exist yet.
        training: what the training is known by, the same for one that would end the same, such as the key of its
            recipe. Each has a subfolder.
        options: an object storage's, see :mod:`kedro_provenance.files.storage`.

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
        """Write the checkpoint of a step, then remove those before the last two.

        Args:
            step: steps done.
            tensors: tensors by name.
            values: anything that JSON can say.

        Returns:
            Path or address of the checkpoint.

        Raises:
            OSError: the file cannot be written, such as on a full disk; the earlier checkpoints are untouched.
        """
        metadata = {"values": json.dumps(values, allow_nan=False)}
        content = safetensors_bytes({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)
        name = f"step-{step:08d}-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
        file = f"{self.folder}/{self.training}/{name}"
        try:
            write_whole(file, content, self.options)
        except OSError as error:
            error.add_note(f"The checkpoint {file} could not be written. Those before it are whole.")
            raise
        names = self._names(self.training)
        earlier = [other for other in names if other < f"step-{step:08d}"]
        for outdated in set(names) - {name, *earlier[: KEPT - 1]}:
            remove(f"{self.folder}/{self.training}/{outdated}", self.options)
        return file

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; None where there is none.

        Torn files are passed over, and those of other trainings left alone; the log says so.
        """
        remove_drafts(f"{self.folder}/{self.training}")
        names = self._names(self.training)
        for name in names:
            file = f"{self.folder}/{self.training}/{name}"
            content = read(file, self.options)
            if hashlib.sha256(content).hexdigest()[:16] != name.removesuffix(".safetensors").rpartition("-")[2]:
                logger.warning("%s is torn, its content is not what was written: passed over.", file)
                continue
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            return Checkpoint(load(content), json.loads(header["__metadata__"]["values"]), file)
        if not names and any(self._names(other) for other in names_in(self.folder, self.options)):
            logger.warning(
                "The checkpoints in %s are another training's, with other settings, code or inputs: this one begins "
                "anew.",
                self.folder,
            )
        return None

    def _names(self, training: str) -> list[str]:
        """Names of a training's checkpoints, newest first."""
        names = names_in(f"{self.folder}/{training}", self.options)
        return sorted((name for name in names if name.startswith("step-")), reverse=True)


def training_tensors(
    weights: Mapping[str, Tensor], optimizer: Optimizer, **groups: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """What a checkpoint holds of weights, their optimiser and further groups of tensors, each as ``group/name``."""
    states = {f"optimizer.{name}": optimizer.state[tensor] for name, tensor in weights.items()}
    every = {"weights": weights, **groups, **states}
    return {f"{group}/{name}": tensor.detach() for group, named in every.items() for name, tensor in named.items()}


@torch.no_grad()
def restore_training(
    checkpoint: Checkpoint, weights: Mapping[str, Tensor], optimizer: Optimizer
) -> dict[str, dict[str, Tensor]]:
    """Put weights and optimiser back to what :func:`training_tensors` took; return the further groups."""
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
    """State of this process's randomness while it trains: PyTorch's, on the CPU and a GPU."""
    states = {"torch": torch.get_rng_state()}
    return states | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else states


def restore_random_states(states: dict[str, Tensor], device: torch.device) -> None:
    """Set the randomness to what :func:`random_states` gave."""
    torch.set_rng_state(states["torch"].cpu().clone())  # PyTorch crashes on a view into a larger tensor
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"].cpu().clone(), device)
