"""Load-only datasets: what a step that may have been interrupted left, to go on from."""

from typing import Any

from kedro_provenance.files.storage import remove
from reclora_kedro.datasets.load_only import LoadOnlyDataset


class CheckpointStoreDataset(LoadOnlyDataset):
    """Gives a training its folder of checkpoints, which need not exist yet.

    It is an input, and has no versions: what one session left there, the next one must find. The runner tells by what
    recipe the node works, and clears the folder once the node's outputs are saved, see
    :class:`kedro_provenance.runner.IncrementalRunner`.

    Args:
        filepath: folder of the checkpoints, local or in an object storage such as ``s3://bucket/folder``.
        credentials: what fsspec takes for the object storage.
        metadata: anything for plugins such as kedro-viz.

    Attributes:
        recipe_key: of the node's recipe: checkpoints that were made by another one are left alone.
    """

    recipe_key = "by-hand"

    def __init__(
        self, *, filepath: str, credentials: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        self._filepath = filepath
        self._credentials = credentials or {}
        self.metadata = metadata

    def load(self) -> Any:
        """The folder as a :class:`reclora_kedro.distributed.checkpoints.CheckpointStore`."""
        from reclora_kedro.distributed.checkpoints import CheckpointStore

        return CheckpointStore(self._filepath, self.recipe_key, self._credentials)

    def clear(self) -> None:
        """Remove the folder: what was made with its help is saved."""
        remove(self._filepath, self._credentials)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


class FinishedShardsDataset(CheckpointStoreDataset):
    """Gives a scoring its folder of finished shards, in the same way."""

    def load(self) -> Any:
        """The folder as :class:`reclora_kedro.distributed.finished.FinishedShards`."""
        from reclora_kedro.distributed.finished import FinishedShards

        return FinishedShards(self._filepath, self.recipe_key, self._credentials)
