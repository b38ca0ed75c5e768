"""A versioned folder of LoRA checkpoints, one a user."""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractVersionedDataset, DatasetError, Version

from reclora_kedro.datasets.whole_folder import whole_folder

LAST_FILE = "README.md"


class UserAdaptersDataset(AbstractVersionedDataset[Any, str]):
    """Saves :class:`reclora_kedro.adapters.export.UserLoras`; loads the folder that holds a folder a user.

    Args:
        filepath: the folder; versions become subfolders.
        version: versions to load and save.
        metadata: anything for plugins such as kedro-viz.
    """

    def __init__(
        self, *, filepath: str, version: Version | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(filepath=PurePosixPath(filepath), version=version, exists_function=self._is_whole)
        self.metadata = metadata

    @staticmethod
    def _is_whole(folder: str) -> bool:
        return (Path(folder) / LAST_FILE).is_file()

    def load(self) -> str:
        """The folder."""
        folder = str(self._get_load_path())
        if not self._is_whole(folder):
            raise DatasetError(
                f"There are no exported adapters in {folder}: expected {LAST_FILE} there. Run `kedro run --pipelines "
                "export` first."
            )
        return folder

    def save(self, data: Any) -> None:
        """Write every user's checkpoint."""
        with whole_folder(Path(self._get_save_path())) as draft:
            data.write(draft)

    def preview(self) -> dict[str, Any]:
        """How many there are, and the configuration that they share, for kedro-viz."""
        configs = sorted(Path(self.load()).glob("*/adapter_config.json"))
        return {"adapters": len(configs), **json.loads(configs[0].read_text(encoding="utf-8"))}

    def _exists(self) -> bool:
        try:
            return self._is_whole(str(self._get_load_path()))
        except DatasetError:
            return False

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}
