"""A dataset of a retriever as a versioned folder."""

from pathlib import Path
from typing import Any, ClassVar

from reclora_kedro.datasets.folders import JSONFolderDataset


class RetrieverDataset(JSONFolderDataset):
    """Saves and loads settings, sizes and weights of :class:`reclora_kedro.candidates.next_item.base.Retriever`."""

    FILES: ClassVar = ("retriever.json", "retriever.safetensors")

    def read(self, folder: Path) -> Any:
        from reclora_kedro.candidates.next_item.base import load_retriever

        return load_retriever(folder)
