"""The base class of datasets of pretrained models."""

from typing import Any, ClassVar

from kedro_provenance.files.storage import local_copy
from reclora_kedro.datasets.load_only import LoadOnlyDataset


class PretrainedDataset(LoadOnlyDataset):
    """A load-only dataset of a pretrained model; `arguments` of the loading function hold a `source`."""

    RESOURCES: ClassVar = ("device",)
    """Arguments that do not change results."""

    def __init__(
        self, arguments: dict[str, Any], credentials: dict[str, Any] | None, metadata: dict[str, Any] | None
    ) -> None:
        self._arguments = arguments
        self._credentials = credentials or {}
        self.metadata = metadata

    def _at_hand(self) -> dict[str, Any]:
        """Return the arguments with a local source, downloading one in an object storage."""
        return self._arguments | {"source": local_copy(self._arguments["source"], self._credentials)}

    def _describe(self) -> dict[str, Any]:
        return self._arguments
