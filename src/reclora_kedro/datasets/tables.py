"""A dataset of tables that may be larger than memory."""

import polars as pl
from kedro.io.core import get_filepath_str
from kedro_datasets.polars import LazyPolarsDataset


class ParquetTableDataset(LazyPolarsDataset):
    """A parquet file, loaded as a polars LazyFrame and saved in batches; arguments as of ``LazyPolarsDataset``."""

    def save(self, data: pl.DataFrame | pl.LazyFrame) -> None:
        with self._fs.open(get_filepath_str(self._get_save_path(), self._protocol), mode="wb") as file:
            data.lazy().sink_parquet(file, **self._save_args)
        self._invalidate_cache()
