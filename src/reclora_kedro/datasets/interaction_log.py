"""The interaction log as a versioned folder: items, users, samples and sequences."""

from pathlib import Path
from typing import Any, ClassVar

import polars as pl
from kedro_datasets._typing import TablePreview

from reclora_kedro.datasets.folder import FolderDataset


class InteractionLogDataset(FolderDataset):
    """Saves and loads :class:`reclora_kedro.histories.log.InteractionLog`, without its item embeddings."""

    FILES: ClassVar = ("items.parquet", "users.parquet", "samples.parquet", "sequences.safetensors")

    def write(self, data: Any, folder: Path) -> None:
        """Write the four parts."""
        data.save(folder)

    def read(self, folder: Path) -> Any:
        """The log."""
        from reclora_kedro.histories.log import InteractionLog

        return InteractionLog.load(folder)

    def preview(self, nrows: int = 5) -> TablePreview:
        """The first samples, for kedro-viz."""
        samples = pl.read_parquet(Path(self._get_load_path()) / "samples.parquet", n_rows=nrows)
        return samples.to_pandas().to_dict(orient="split")
