"""Results of finished shards, kept until the whole step is saved, so that a killed run need not repeat them."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from kedro_provenance.files.storage import is_remote, names_in, read, remove_drafts, write_whole


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
        remove_drafts(self.folder)
        missing, files = [], dict[str, list[str]]()
        for file in names_in(self.folder, self.options):
            files.setdefault(file.rpartition("-")[0], []).append(file)
        for place, name in enumerate(names):
            if (result := self._read(name, files.get(name, ()))) is None:
                missing.append(place)
            else:
                yield place, result
        for place, result in zip(missing, run(missing), strict=True):
            content = save({"result": result})
            write_whole(f"{self.folder}/{names[place]}-{_digest(content)}.safetensors", content, self.options)
            yield place, result

    def _read(self, name: str, files: Sequence[str]) -> np.ndarray | None:
        """Read a shard's result from its first intact file; None if it has none."""
        for file in files:
            content = read(f"{self.folder}/{file}", self.options)
            if file == f"{name}-{_digest(content)}.safetensors":
                return load(content)["result"]
        return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
