"""Versioned folders whose files belong together: the base of the project's own datasets."""

import json
from abc import abstractmethod
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import polars as pl
from kedro.io import AbstractVersionedDataset, DatasetError, Version
from safetensors import SafetensorError, safe_open


class FolderDataset(AbstractVersionedDataset[Any, Any]):
    """A folder of files; versions become subfolders. A subclass says how to write and to read it.

    The catalog saves it whole, see :class:`reclora_kedro.catalog.AtomicCatalog`; a version whose files are missing or
    cut short does not exist, and is refused by name when it is asked for.

    Args:
        filepath: the folder.
        version: versions to load and save.
        metadata: anything for plugins such as kedro-viz.
    """

    FILES: ClassVar[tuple[str, ...]]
    """Files that a whole folder holds."""

    def __init__(
        self, *, filepath: str, version: Version | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(
            filepath=PurePosixPath(filepath), version=version, exists_function=lambda path: Path(path).is_dir()
        )
        self.metadata = metadata

    @abstractmethod
    def write(self, data: Any, folder: Path) -> None:
        """Write the data to an empty folder."""

    @abstractmethod
    def read(self, folder: Path) -> Any:
        """The data in a whole folder."""

    def load(self) -> Any:
        """The data of the folder.

        Raises:
            DatasetError: there is none, or it is not whole.
        """
        folder = Path(self._get_load_path())
        if fault := self._fault(folder):
            raise DatasetError(
                f"{folder} is not whole: {fault}. Remove that version and make it again, or name another one with "
                "--load-versions."
            )
        return self.read(folder)

    def save(self, data: Any) -> None:
        """Write the folder."""
        folder = Path(self._get_save_path())
        folder.mkdir(parents=True, exist_ok=True)
        self.write(data, folder)

    def _fault(self, folder: Path) -> str | None:
        """What is missing or damaged in a folder; None if it is whole."""
        missing = [name for name in self.FILES if not (folder / name).is_file()]
        if missing:
            return f"{' and '.join(missing)} is missing"
        for name in self.FILES:
            try:
                check_file(folder / name)
            except (ValueError, SafetensorError, pl.exceptions.ComputeError) as error:
                return f"{name} is cut short or damaged ({error})"
        return None

    def _exists(self) -> bool:
        try:
            return self._fault(Path(self._get_load_path())) is None
        except DatasetError:
            return False

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}


def check_file(file: Path) -> None:
    """Read as much of a file as tells whether it is whole."""
    if file.suffix == ".json":
        json.loads(file.read_text(encoding="utf-8"))
    elif file.suffix == ".safetensors":
        with safe_open(file, framework="numpy"):  # reads the header and compares it with the file's size
            pass
    elif file.suffix == ".parquet":
        pl.read_parquet_schema(file)
