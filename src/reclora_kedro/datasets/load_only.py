"""The base of datasets that are loaded alone."""

from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError


class LoadOnlyDataset(AbstractDataset[NoReturn, Any]):
    """Loads what no node saves: it comes from elsewhere, or is written while a node runs."""

    def save(self, data: NoReturn) -> None:
        """Refuse to save.

        Raises:
            DatasetError: always.
        """
        raise DatasetError(f"{self} is read only: save to another catalog entry.")
