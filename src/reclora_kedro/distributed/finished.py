"""Shards that a step has finished, kept until all of it is saved: a run that was killed need not run them again."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from kedro_provenance.files.storage import is_remote, names_in, read, remove_drafts, write_whole


class FinishedShards:
    """A folder of results, local or in an object storage, an array per shard.

    A result's name tells which shard it is of, and a digest of its content that it is whole: torn ones do not count.

    Args:
        folder: where results lie, a path or an address such as ``s3://bucket/folder``; it need not exist yet.
        work: what the results are made by and of, such as the key of a node's recipe. Each has a subfolder.
        options: an object storage's, see :mod:`kedro_provenance.files.storage`.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     finished = FinishedShards(folder, "a key")
        ...     run = lambda places: (np.array(place) for place in places)
        ...     _ = next(finished.go_on(["first", "second"], run))  # and the run is killed
        ...     list(finished.go_on(["first", "second"], run))
        [(0, array(0)), (1, array(1))]
    """

    def __init__(self, folder: str | Path, work: str, options: Mapping[str, Any] | None = None) -> None:
        self.folder = f"{folder if is_remote(folder) else Path(folder).absolute()}/{work}"
        self.options = options or {}

    def go_on(
        self, names: Sequence[str], run: Callable[[Sequence[int]], Iterable[np.ndarray]]
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Place and result of every shard: first of those that are finished, then of the others, which are kept.

        Args:
            names: of each shard, a digest of what its result depends on besides the work.
            run: gives the results of the shards at some places, in order.

        Raises:
            OSError: a result cannot be written.
        """
        remove_drafts(self.folder)
        missing, files = [], dict[str, list[str]]()
        for file in names_in(self.folder, self.options):
            files.setdefault(file.rpartition("-")[0], []).append(file)
        for place, name in enumerate(names):
            if (result := self._find(name, files.get(name, ()))) is None:
                missing.append(place)
            else:
                yield place, result
        for place, result in zip(missing, run(missing), strict=True):
            content = save({"result": result})
            write_whole(f"{self.folder}/{names[place]}-{_digest(content)}.safetensors", content, self.options)
            yield place, result

    def _find(self, name: str, files: Sequence[str]) -> np.ndarray | None:
        """The result of a shard in one of its files; None if there is none, or if they are torn."""
        for file in files:
            content = read(f"{self.folder}/{file}", self.options)
            if file == f"{name}-{_digest(content)}.safetensors":
                return load(content)["result"]
        return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
