"""A PEFT adapter as a versioned folder: ``adapter_config.json`` and ``adapter_model.safetensors``."""

from pathlib import Path
from typing import Any, ClassVar

from kedro_datasets._typing import JSONPreview

from reclora_kedro.datasets.folder import FolderDataset


class PeftAdapterDataset(FolderDataset):
    """Saves the active adapter of a PEFT model; loads the folder for ``PeftModel.from_pretrained(llm, folder)``."""

    FILES: ClassVar = ("adapter_config.json", "adapter_model.safetensors")

    def write(self, data: Any, folder: Path) -> None:
        """Write the adapter; the base LLM is not copied."""
        data.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)

    def read(self, folder: Path) -> str:
        """The folder."""
        return str(folder)

    def preview(self) -> JSONPreview:
        """The adapter's configuration, for kedro-viz."""
        return JSONPreview((Path(self._get_load_path()) / "adapter_config.json").read_text(encoding="utf-8"))
