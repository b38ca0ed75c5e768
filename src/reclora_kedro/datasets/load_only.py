"""The base classes of load-only datasets."""

from typing import Any, ClassVar, NoReturn

from kedro.io import AbstractDataset, DatasetError

from reclora_kedro.sealed import local_copy


class LoadOnlyDataset(AbstractDataset[NoReturn, Any]):
    """A dataset that no node saves, as its data come from elsewhere or are written while a node runs."""

    def save(self, data: NoReturn) -> None:
        raise DatasetError(f"{self} is read only: save to another catalog entry.")


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
