"""Datasets of tables: raw ones in any file, and those that may be larger than memory."""

from pathlib import Path
from typing import Any

import polars as pl
from kedro.io.core import get_filepath_str
from kedro_datasets.polars import EagerPolarsDataset

from reclora_kedro.datasets.load_only import LoadOnlyDataset
from reclora_kedro.extras import require_extra
from reclora_kedro.ingestion.tables import TableFormat, find_format, read_file


class RawTableDataset(LoadOnlyDataset):
    """A raw table in a file, read as `Recommender.fit` reads it; parquet, also in a folder, lazily.

    The file is delimited text, JSON or parquet, packed or not, of a `format` that is found out if it is None. `columns`
    has the polars types of the columns to read, such as String, Int64 and Float64, by name; `row_number` names a
    further one that numbers the rows from 1, for logs without times.
    """

    def __init__(
        self,
        *,
        filepath: str,
        columns: dict[str, Any],
        format: dict[str, Any] | None = None,
        row_number: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._path, self._columns, self._row_number, self.metadata = Path(filepath), columns, row_number, metadata
        self._format = None if format is None else TableFormat.model_validate(format)

    def load(self) -> pl.DataFrame | pl.LazyFrame:
        table = read_file(self._path, self._format or find_format(self._path), self._columns)
        return table if self._row_number is None else table.with_row_index(self._row_number, offset=1)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}


class ParquetTableDataset(EagerPolarsDataset):
    """A parquet file, loaded as a polars LazyFrame and saved in batches; arguments as of ``EagerPolarsDataset``."""

    def load(self) -> pl.LazyFrame:
        path = get_filepath_str(self._get_load_path(), self._protocol)
        if self._protocol == "file":
            return pl.scan_parquet(path)
        require_extra("arrow", f"{path}, which is not on this machine,")
        from pyarrow.dataset import dataset

        return pl.scan_pyarrow_dataset(dataset(path, filesystem=self._fs, format="parquet"))

    def save(self, data: pl.DataFrame | pl.LazyFrame) -> None:
        with self._fs.open(get_filepath_str(self._get_save_path(), self._protocol), mode="wb") as file:
            data.lazy().sink_parquet(file, **self._save_args)
        self._invalidate_cache()
