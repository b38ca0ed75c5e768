"""Checkpoints of a training run, found again by the run that they belong to."""

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

from reclora_kedro.files.storage import is_remote, names_in, read, remove, write_whole

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
    """A folder of checkpoints, local or in an object storage, one subfolder per run, the newest two of each kept.

    A checkpoint is a safetensors file that carries the JSON values as its metadata. Its name ends in a digest of its
    content, so that a torn file is recognised. It is written whole or not at all: a run that is killed while it writes
    leaves the earlier ones as they were.

    Args:
        folder: where checkpoints lie, a path or an address such as ``s3://bucket/folder``; it need not exist yet.
        options: an object storage's, see :mod:`reclora_kedro.files.storage`.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = CheckpointStore(folder)
        ...     _ = store.save("a run", 40, {"weights": torch.ones(2)}, {"rows": 320})
        ...     store.newest("a run").values
        {'rows': 320}
    """

    def __init__(self, folder: str | Path, options: Mapping[str, Any] | None = None) -> None:
        self.folder = str(folder) if is_remote(folder) else str(Path(folder).absolute())
        self.options = options or {}

    def save(self, run: str, step: int, tensors: dict[str, Tensor], values: dict[str, Any]) -> str:
        """Write the checkpoint of a step, then remove those before the last two.

        Args:
            run: what the run is known by, see :func:`reclora_kedro.finetuning.training.fingerprint`.
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
        file = f"{self.folder}/{run}/{name}"
        try:
            write_whole(file, content, self.options)
        except OSError as error:
            error.add_note(f"The checkpoint {file} could not be written. Those before it are whole.")
            raise
        names = self._names(run)
        earlier = [other for other in names if other < f"step-{step:08d}"]
        for outdated in set(names) - {name, *earlier[: KEPT - 1]}:
            remove(f"{self.folder}/{run}/{outdated}", self.options)
        return file

    def newest(self, run: str) -> Checkpoint | None:
        """The newest checkpoint of a run that is whole; None where there is none.

        Torn files are passed over, and those of other runs left alone; the log says so.
        """
        names = self._names(run)
        for name in names:
            file = f"{self.folder}/{run}/{name}"
            content = read(file, self.options)
            if hashlib.sha256(content).hexdigest()[:16] != name.removesuffix(".safetensors").rpartition("-")[2]:
                logger.warning("%s is torn, its content is not what was written: passed over.", file)
                continue
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            return Checkpoint(load(content), json.loads(header["__metadata__"]["values"]), file)
        if not names and any(self._names(other) for other in names_in(self.folder, self.options)):
            logger.warning(
                "The checkpoints in %s are another run's, with other settings, prompts, gate inputs, adapter or base "
                "LLM: this run begins anew.",
                self.folder,
            )
        return None

    def clear(self) -> None:
        """Remove every checkpoint: their adapter is saved."""
        remove(self.folder, self.options)

    def _names(self, run: str) -> list[str]:
        """Names of a run's checkpoints, newest first."""
        names = names_in(f"{self.folder}/{run}", self.options)
        return sorted((name for name in names if name.startswith("step-")), reverse=True)


def random_states(device: torch.device) -> dict[str, Tensor]:
    """State of this process's randomness while it trains: PyTorch's, on the CPU and a GPU."""
    states = {"torch": torch.get_rng_state()}
    return states | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else states


def restore_random_states(states: dict[str, Tensor], device: torch.device) -> None:
    """Set the randomness to what :func:`random_states` gave."""
    torch.set_rng_state(states["torch"].cpu().clone())  # PyTorch crashes on a view into a larger tensor
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"].cpu().clone(), device)
