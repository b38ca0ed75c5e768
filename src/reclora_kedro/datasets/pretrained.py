"""The base of datasets of pretrained models."""

from typing import Any, ClassVar

from kedro_provenance.files.storage import local_copy
from reclora_kedro.datasets.load_only import LoadOnlyDataset


class PretrainedDataset(LoadOnlyDataset):
    """A model that was trained elsewhere.

    Args:
        arguments: what its loading takes, its `source` among them.
        credentials: what fsspec takes for the object storage.
        metadata: anything for plugins such as kedro-viz.
    """

    RESOURCES: ClassVar = ("device",)
    """Arguments that say where it is computed, but change no results."""

    def __init__(
        self, arguments: dict[str, Any], credentials: dict[str, Any] | None, metadata: dict[str, Any] | None
    ) -> None:
        self._arguments = arguments
        self._credentials = credentials or {}
        self.metadata = metadata

    def _at_hand(self) -> dict[str, Any]:
        """The arguments with a source on this machine: what lies in an object storage is fetched."""
        return self._arguments | {"source": local_copy(self._arguments["source"], self._credentials)}

    def _describe(self) -> dict[str, Any]:
        return self._arguments
