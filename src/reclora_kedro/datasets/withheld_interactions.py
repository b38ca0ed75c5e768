"""A load-only dataset of the interactions that updates keep out."""

from typing import Any, ClassVar

import polars as pl
from kedro.io.core import Version
from kedro_datasets.polars import EagerPolarsDataset

from reclora_kedro.datasets.load_only import LoadOnlyDataset

SCHEMA = {
    "user_id": pl.String,
    "item_id": pl.String,
    "rating": pl.Float64,
    "timestamp": pl.Int64,
    "label": pl.Int8,
    "source": pl.String,
    "group": pl.String,
    "alarm": pl.String,
}


class WithheldInteractionsDataset(LoadOnlyDataset):
    """Loads the newest version of the entry `quarantined_interactions`; empty if there is no version."""

    RESOURCES: ClassVar = ("path",)  # the rows decide what is made, and not where they are written down

    def __init__(
        self, *, path: str, credentials: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        self._path = path
        self._newest = EagerPolarsDataset(
            filepath=path, file_format="parquet", version=Version(None, None), credentials=credentials
        )
        self.metadata = metadata

    def load(self) -> pl.DataFrame:
        """Load the table, whose content changes with every update."""
        self._newest.release()  # it may remember which versions there were
        return self._newest.load() if self._newest.exists() else pl.DataFrame(schema=SCHEMA)

    def _describe(self) -> dict[str, Any]:
        return {"path": self._path}
