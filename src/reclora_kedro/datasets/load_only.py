"""The base classes of load-only datasets."""

from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

from kedro.io import AbstractDataset, AbstractVersionedDataset, DatasetError, Version


class LoadOnlyDataset(AbstractDataset[NoReturn, Any]):
    """A dataset that no node saves, as its data come from elsewhere or are written while a node runs."""

    def save(self, data: NoReturn) -> None:
        raise DatasetError(f"{self} is read only: save to another catalog entry.")


class NewestVersionDataset(LoadOnlyDataset):
    """Loads the newest version of another entry, if there is any, by the path of its versions."""

    RESOURCES: ClassVar = ("path",)  # the data decide what is made, and not where they are written down
    KIND: ClassVar[Callable[..., AbstractVersionedDataset[Any, Any]]]
    """Type of that entry's dataset."""

    def __init__(
        self, *, path: str, credentials: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        self._path = path
        self._newest = self.KIND(filepath=path, version=Version(None, None), credentials=credentials)
        self.metadata = metadata

    def newest(self) -> Any | None:
        """Return the data of the newest version now; None if there is none."""
        self._newest.release()  # it may remember which versions there were
        return self._newest.load() if self._newest.exists() else None

    def _describe(self) -> dict[str, Any]:
        return {"path": self._path}
