"""The base class of load-only datasets."""

from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError


class LoadOnlyDataset(AbstractDataset[NoReturn, Any]):
    """A dataset that no node saves, as its data come from elsewhere or are written while a node runs."""

    def save(self, data: NoReturn) -> None:
        raise DatasetError(f"{self} is read only: save to another catalog entry.")
