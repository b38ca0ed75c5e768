"""A versioned folder with a PEFT adapter: ``adapter_config.json`` and ``adapter_model.safetensors``."""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractVersionedDataset, DatasetError, Version

from reclora_kedro.datasets.whole_folder import whole_folder

CONFIG_FILE = "adapter_config.json"


class PeftAdapterDataset(AbstractVersionedDataset[Any, str]):
    """Saves the adapter of a PEFT model; loads the folder for ``PeftModel.from_pretrained(llm, folder)``.

    The folder is moved into place when complete: a run that was killed leaves no half adapter behind.

    Args:
        filepath: folder of the adapter; versions become subfolders.
        version: versions to load and save.
        metadata: anything for plugins such as kedro-viz.
    """

    def __init__(
        self, *, filepath: str, version: Version | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(filepath=PurePosixPath(filepath), version=version, exists_function=self._has_config)
        self.metadata = metadata

    @staticmethod
    def _has_config(folder: str) -> bool:
        return (Path(folder) / CONFIG_FILE).is_file()

    def load(self) -> str:
        """The folder of the adapter."""
        folder = str(self._get_load_path())
        if not self._has_config(folder):
            raise DatasetError(f"There is no adapter in {folder}: expected {CONFIG_FILE} there. Train one first.")
        return folder

    def save(self, data: Any) -> None:
        """Write the active adapter of a PEFT model; the base LLM is not copied."""
        with whole_folder(Path(self._get_save_path())) as draft:
            data.save_pretrained(draft)
            (draft / "README.md").unlink(missing_ok=True)

    def preview(self) -> dict[str, Any]:
        """The adapter's configuration, for kedro-viz."""
        return json.loads((Path(self.load()) / CONFIG_FILE).read_text(encoding="utf-8"))

    def _exists(self) -> bool:
        try:
            return self._has_config(str(self._get_load_path()))
        except DatasetError:
            return False

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}
