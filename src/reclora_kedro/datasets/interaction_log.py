"""Datasets of the log as a versioned folder."""

from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from reclora_kedro.datasets.folders import FolderDataset
from reclora_kedro.datasets.previews import TablePreview


class InteractionLogDataset(FolderDataset):
    """Saves and loads :class:`reclora_kedro.history.log.InteractionLog` without item embeddings."""

    FILES: ClassVar[tuple[str, ...]] = (
        "items.parquet",
        "users.parquet",
        "samples.arrow",
        "sequences.safetensors",
    )

    def read(self, folder: Path) -> Any:
        from reclora_kedro.history.log import InteractionLog

        return InteractionLog.load(folder)

    def preview(self, nrows: int = 5) -> TablePreview:
        samples = pl.read_ipc(Path(self._get_load_path()) / "samples.arrow", n_rows=nrows)
        return samples.to_pandas().to_dict(orient="split")


class EmbeddedLogDataset(InteractionLogDataset):
    """Saves and loads the log with item embeddings."""

    FILES: ClassVar = (*InteractionLogDataset.FILES, "item_embeddings.safetensors")
