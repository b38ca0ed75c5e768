"""A dataset of a lens as a versioned folder."""

from pathlib import Path
from typing import Any, ClassVar

from reclora_kedro.datasets.folders import JSONFolderDataset


class LensDataset(JSONFolderDataset):
    """Saves and loads a frozen :class:`reclora_kedro.lens.base.Lens`: its settings, sizes and weights."""

    FILES: ClassVar = ("lens.json", "lens.safetensors")

    def read(self, folder: Path) -> Any:
        from reclora_kedro.lens.base import load_lens

        return load_lens(folder)
