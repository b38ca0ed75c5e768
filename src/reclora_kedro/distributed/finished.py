"""Shards that a step has finished, kept until all of it is saved: a run that was killed need not run them again."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from reclora_kedro.storage import is_remote, names_in, read, remove, write_whole


class FinishedShards:
    """A folder of results, local or in an object storage, an array per shard.

    A result's name tells what it is of, and a digest of its content that it is whole: torn ones do not count.

    Args:
        folder: where results lie, a path or an address such as ``s3://bucket/folder``; it need not exist yet.
        options: an object storage's, see :mod:`reclora_kedro.storage`.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     finished = FinishedShards(folder)
        ...     finished.keep("first", np.arange(3))
        ...     finished.find("first"), finished.find("second")
        (array([0, 1, 2]), None)
    """

    def __init__(self, folder: str | Path, options: Mapping[str, Any] | None = None) -> None:
        self.folder = str(folder) if is_remote(folder) else str(Path(folder).absolute())
        self.options = options or {}

    def keep(self, shard: str, result: np.ndarray) -> None:
        """Keep the result of a shard.

        Args:
            shard: digest of all that the result depends on.
            result: numbers of any shape.

        Raises:
            OSError: it cannot be written.
        """
        content = save({"result": result})
        write_whole(f"{self.folder}/{shard}-{_digest(content)}.safetensors", content, self.options)

    def find(self, shard: str) -> np.ndarray | None:
        """The result of a shard; None if none was kept, or if it is torn."""
        for name in names_in(self.folder, self.options):
            if name.startswith(f"{shard}-"):
                content = read(f"{self.folder}/{name}", self.options)
                if name == f"{shard}-{_digest(content)}.safetensors":
                    return load(content)["result"]
        return None

    def clear(self) -> None:
        """Remove every result: what they are parts of is saved."""
        remove(self.folder, self.options)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
