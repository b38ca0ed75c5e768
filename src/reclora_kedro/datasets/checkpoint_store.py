"""Load-only datasets of the stores from which an interrupted step resumes."""

from typing import Any

from kedro_provenance.files.storage import remove
from reclora_kedro.datasets.load_only import LoadOnlyDataset


class CheckpointStoreDataset(LoadOnlyDataset):
    """Provides a training with its folder of checkpoints, which need not exist yet.

    It is an input without versions, so that a session finds what an earlier one left. The runner sets `recipe_key`, the
    key of the node's recipe, so that checkpoints of other recipes are ignored, and clears the folder once the node's
    outputs are saved, see :class:`kedro_provenance.runner.IncrementalRunner`. It may be in an object storage, such as
    ``s3://bucket/folder``, with credentials for fsspec.
    """

    recipe_key = "by-hand"

    def __init__(
        self, *, filepath: str, credentials: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        self._filepath = filepath
        self._credentials = credentials or {}
        self.metadata = metadata

    def load(self) -> Any:
        """Return the folder as a :class:`reclora_kedro.distributed.checkpoints.CheckpointStore`."""
        from reclora_kedro.distributed.checkpoints import CheckpointStore

        return CheckpointStore(self._filepath, self.recipe_key, self._credentials)

    def clear(self) -> None:
        remove(self._filepath, self._credentials)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


class FinishedShardsDataset(CheckpointStoreDataset):
    """Provides a scoring with its folder of finished shards, likewise."""

    def load(self) -> Any:
        """Return the folder as :class:`reclora_kedro.distributed.checkpoints.FinishedShards`."""
        from reclora_kedro.distributed.checkpoints import FinishedShards

        return FinishedShards(self._filepath, self.recipe_key, self._credentials)
