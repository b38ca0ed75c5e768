"""What a killed run need not repeat: checkpoints of a training, and results of finished shards of a step.

They are stored under a key of the training, or of the step.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from safetensors.torch import load, save
from torch import Tensor
from torch.optim import Optimizer

from kedro_provenance.files.atomic import UNFINISHED
from kedro_provenance.files.scratch import remove_abandoned
from kedro_provenance.files.storage import is_remote, names_in, read, remove, write_whole

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
        content = save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)
        name = f"step-{step:08d}-{_digest(content)}.safetensors"
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
        _remove_drafts(f"{self.folder}/{self.training}")
        names = self._names(self.training)
        for name in names:
            file = f"{self.folder}/{self.training}/{name}"
            content = read(file, self.options)
            if _digest(content) != name.removesuffix(".safetensors").rpartition("-")[2]:
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


class FinishedShards:
    """One array per finished shard, in a local folder or an object storage.

    A file's name holds the shard's name and a digest of the content; damaged files do not count. `work`, the key of the
    step, names a subfolder; see `CheckpointStore` for the others.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     finished = FinishedShards(folder, "a key")
        ...     run = lambda places: (np.array(place) for place in places)
        ...     _ = next(finished.resume(["first", "second"], run))  # and the run is killed
        ...     list(finished.resume(["first", "second"], run))
        [(0, array(0)), (1, array(1))]
    """

    def __init__(self, folder: str | Path, work: str, options: Mapping[str, Any] | None = None) -> None:
        self.folder = f"{folder if is_remote(folder) else Path(folder).absolute()}/{work}"
        self.options = options or {}

    def resume(
        self, names: Sequence[str], run: Callable[[Sequence[int]], Iterable[np.ndarray]]
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield place and result of every shard: first those already finished, then the others, which are saved.

        A name is the digest of what a shard's result depends on besides the step; `run` computes the results of the
        shards at the given places, in order. OSError is raised for a result that cannot be written.
        """
        _remove_drafts(self.folder)
        missing, files = [], dict[str, list[str]]()
        for file in names_in(self.folder, self.options):
            files.setdefault(file.rpartition("-")[0], []).append(file)
        for place, name in enumerate(names):
            if (result := self._read(name, files.get(name, ()))) is None:
                missing.append(place)
            else:
                yield place, result
        for place, result in zip(missing, run(missing), strict=True):
            content = safetensors.numpy.save({"result": result})
            write_whole(f"{self.folder}/{names[place]}-{_digest(content)}.safetensors", content, self.options)
            yield place, result

    def _read(self, name: str, files: Sequence[str]) -> np.ndarray | None:
        """Read a shard's result from its first intact file; None if it has none."""
        for file in files:
            content = read(f"{self.folder}/{file}", self.options)
            if file == f"{name}-{_digest(content)}.safetensors":
                return safetensors.numpy.load(content)["result"]
        return None


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


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _remove_drafts(folder: str) -> None:
    """Remove unfinished files that killed processes of this machine left in a folder by `write_whole`."""
    if not is_remote(folder):
        remove_abandoned(folder, UNFINISHED)
