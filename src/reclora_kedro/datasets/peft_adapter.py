"""A versioned folder with a PEFT adapter: ``adapter_config.json`` and ``adapter_model.safetensors``."""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractVersionedDataset, DatasetError, Version
from safetensors import SafetensorError, safe_open

from reclora_kedro.datasets.whole_folder import whole_folder

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"


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
        """The folder of the adapter.

        Raises:
            DatasetError: there is none, or it is not whole.
        """
        folder = str(self._get_load_path())
        if fault := fault_of(Path(folder)):
            raise DatasetError(
                f"There is no whole adapter in {folder}: {fault}. Remove that version and train it again, or name "
                "another one with --load-versions."
            )
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
            return fault_of(Path(self._get_load_path())) is None
        except DatasetError:
            return False

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}


def fault_of(folder: Path) -> str | None:
    """What is missing or cut short in an adapter's folder; None if it is whole."""
    try:
        json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        with safe_open(folder / WEIGHTS_FILE, framework="numpy"):  # reads the header, compares it with the file's size
            return None
    except FileNotFoundError:
        missing = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]
        return f"{' and '.join(missing)} is missing"
    except ValueError as error:
        return f"{CONFIG_FILE} is cut short or damaged ({error})"
    except SafetensorError as error:
        return f"{WEIGHTS_FILE} is cut short or damaged ({error})"
