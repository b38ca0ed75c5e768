"""A load-only dataset of the interactions that updates keep out."""

from functools import partial
from typing import ClassVar

import polars as pl
from kedro_datasets.polars import EagerPolarsDataset

from reclora_kedro.datasets.load_only import NewestVersionDataset
from reclora_kedro.ingestion.events import PLAIN

SCHEMA = PLAIN.table | dict.fromkeys(("user_id", "item_id", "source", "group", "alarm"), pl.String)


class WithheldInteractionsDataset(NewestVersionDataset):
    """Loads the newest version of the entry `quarantined_interactions`; empty if there is no version."""

    KIND: ClassVar = staticmethod(partial(EagerPolarsDataset, file_format="parquet"))

    def load(self) -> pl.DataFrame:
        """Load the table, whose content changes with every update."""
        newest = self.newest()
        return pl.DataFrame(schema=SCHEMA) if newest is None else newest
