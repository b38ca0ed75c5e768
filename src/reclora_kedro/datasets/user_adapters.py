"""LoRA checkpoints as a versioned folder, a subfolder per user."""

import json
from pathlib import Path
from typing import Any, ClassVar

from kedro_datasets._typing import JSONPreview

from reclora_kedro.datasets.folder import FolderDataset


class UserAdaptersDataset(FolderDataset):
    """Saves :class:`reclora_kedro.adapters.reclora.export.UserLoras`; loads the folder."""

    FILES: ClassVar = ("README.md",)

    def write(self, data: Any, folder: Path) -> None:
        """Write every user's checkpoint."""
        data.save(folder)

    def read(self, folder: Path) -> str:
        """The folder."""
        return str(folder)

    def preview(self) -> JSONPreview:
        """How many there are, and the configuration that they share, for kedro-viz."""
        configs = sorted(Path(self._get_load_path()).glob("*/adapter_config.json"))
        return JSONPreview(json.dumps({"adapters": len(configs), **json.loads(configs[0].read_text(encoding="utf-8"))}))
