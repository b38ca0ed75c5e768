"""Checkpoints of a training run, found again by the run that they belong to."""

import hashlib
import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from reclora_kedro.atomic import atomic_file

logger = logging.getLogger(__name__)

KEPT = 2  # a torn newest checkpoint falls back to the one before


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and everything else as JSON values."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]
    file: Path


class CheckpointStore:
    """A folder of checkpoints, one subfolder per run, the newest two of each kept.

    A checkpoint is a safetensors file that carries the JSON values as its metadata. Its name ends in a digest of its
    content, so that a torn file is recognised. It is written atomically: a run that is killed while it writes leaves
    the earlier ones as they were.

    Args:
        folder: where checkpoints lie; it need not exist yet.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = CheckpointStore(folder)
        ...     _ = store.save("a run", 40, {"weights": torch.ones(2)}, {"rows": 320})
        ...     store.newest("a run").values
        {'rows': 320}
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def save(self, run: str, step: int, tensors: dict[str, Tensor], values: dict[str, Any]) -> Path:
        """Write the checkpoint of a step, then remove those before the last two.

        Args:
            run: what the run is known by, see :func:`reclora_kedro.finetuning.training.fingerprint`.
            step: steps done.
            tensors: tensors by name.
            values: anything that JSON can say.

        Raises:
            OSError: the file cannot be written, such as on a full disk; the earlier checkpoints are untouched.
        """
        metadata = {"values": json.dumps(values, allow_nan=False)}
        content = safetensors_bytes({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)
        file = self.folder / run / f"step-{step:08d}-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
        try:
            atomic_file(file, content)
        except OSError as error:
            error.add_note(f"The checkpoint {file} could not be written. Those before it are whole.")
            raise
        files = self._files(run)
        earlier = [other for other in files if other.name < f"step-{step:08d}"]
        for outdated in set(files) - {file, *earlier[: KEPT - 1]}:
            outdated.unlink()
        return file

    def newest(self, run: str) -> Checkpoint | None:
        """The newest checkpoint of a run that is whole; None where there is none.

        Torn files are passed over, and those of other runs left alone; the log says so.
        """
        for file in self._files(run):
            content = file.read_bytes()
            if hashlib.sha256(content).hexdigest()[:16] != file.stem.rpartition("-")[2]:
                logger.warning("%s is torn, its content is not what was written: passed over.", file)
                continue
            with safe_open(file, "pt") as opened:
                tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118  (it is no dict)
                return Checkpoint(tensors, json.loads(opened.metadata()["values"]), file)
        if any(self.folder.glob("*/step-*")) and not self._files(run):
            logger.warning(
                "The checkpoints in %s are another run's, with other settings, prompts, gate inputs, adapter or base "
                "LLM: this run begins anew.",
                self.folder,
            )
        return None

    def clear(self) -> None:
        """Remove every checkpoint: their adapter is saved."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self, run: str) -> list[Path]:
        """Checkpoints of a run, newest first."""
        return sorted((self.folder / run).glob("step-*.safetensors"), reverse=True)


def random_states(device: torch.device) -> dict[str, Tensor]:
    """State of this process's randomness while it trains: PyTorch's, on the CPU and a GPU."""
    states = {"torch": torch.get_rng_state()}
    return states | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else states


def restore_random_states(states: dict[str, Tensor], device: torch.device) -> None:
    """Set the randomness to what :func:`random_states` gave."""
    torch.set_rng_state(states["torch"].cpu().clone())  # PyTorch crashes on a view into a larger tensor
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"].cpu().clone(), device)
