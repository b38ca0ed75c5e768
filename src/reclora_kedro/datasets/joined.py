"""Datasets that put raw tables together: those of several data sets, or rows and columns of two tables."""

from typing import Any

import polars as pl
from kedro.io import AbstractDataset

from reclora_kedro.datasets.load_only import LoadOnlyDataset
from reclora_kedro.ingestion.raw_tables import RawColumns, as_polars


class JoinedTablesDataset(LoadOnlyDataset):
    """Raw tables of several data sets, concatenated, with a column that names the data set of each row.

    Ids are prefixed with the data set's name, so that equal ids of two data sets stay different. Missing columns are
    null. ValueError is raised for a table that already has the new column, or lacks a named one.
    Tables have, by the name of a data set, its ``dataset``, an ordinary catalog entry, and optionally ``multiply``,
    factors of columns, such as ratings on another scale; `ids` are columns of ids, `column` is the new one.
    """

    def __init__(
        self,
        *,
        tables: dict[str, dict[str, Any]],
        ids: list[str],
        column: str = "domain",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._tables, self._ids, self._column, self.metadata = tables, ids, column, metadata
        self._datasets = {name: AbstractDataset.from_config(name, table["dataset"]) for name, table in tables.items()}

    def load(self) -> Any:
        return pl.concat([self._table(name) for name in self._datasets], how="diagonal_relaxed")

    def _table(self, name: str) -> Any:
        table, factors = as_polars(self._datasets[name].load(), name), self._tables[name].get("multiply", {})
        if self._column in table.columns:
            raise ValueError(f"The table {name} has a column {self._column!r} already: give `column` another name.")
        raw = RawColumns(table, name)
        ids = ((pl.lit(f"{name}-") + raw.ids(each, "ids").cast(pl.String)).alias(each) for each in self._ids)
        numbers = (raw.numbers(each, "multiply") * factor for each, factor in factors.items())
        return table.with_columns(*ids, *numbers, pl.lit(name).alias(self._column))

    def _describe(self) -> dict[str, Any]:
        return {"tables": list(self._tables), "column": self._column}


class KeyedTablesDataset(LoadOnlyDataset):
    """The rows of a table with the columns of another one, such as lines of orders with the users and times of these.

    ``rows`` and ``columns`` are ordinary catalog entries, the latter of a table with one row per ``key``, a column of
    both. Of two columns of one name, that of ``rows`` stays; columns are null where the other table lacks the key of a
    row. ValueError is raised if a table lacks the key, the types of the keys differ, or ``columns`` repeats one.
    """

    def __init__(
        self, *, rows: dict[str, Any], columns: dict[str, Any], key: str, metadata: dict[str, Any] | None = None
    ) -> None:
        entries = {"rows": rows, "columns": columns}
        self._datasets = {name: AbstractDataset.from_config(name, entry) for name, entry in entries.items()}
        self._key, self.metadata = key, metadata

    def load(self) -> Any:
        tables = {name: as_polars(dataset.load(), name) for name, dataset in self._datasets.items()}
        keys = {name: RawColumns(table, name).ids(self._key, "key") for name, table in tables.items()}
        rows, columns = (tables[name].with_columns(keys[name]) for name in ("rows", "columns"))
        if keys["rows"].dtype != keys["columns"].dtype:
            raise ValueError(
                f"The key {self._key!r} is {keys['rows'].dtype} in rows and {keys['columns'].dtype} in columns: let "
                "both load it as the same type."
            )
        known = keys["columns"].drop_nulls()
        if len(repeated := known.filter(known.is_duplicated())):
            raise ValueError(
                f"The key {self._key!r} must name one row of columns, but {repeated[0]!r} is in several: exchange "
                "rows and columns, or name another key."
            )
        new = [self._key, *(name for name in columns.columns if name not in rows.columns)]
        return rows.join(columns.select(new).drop_nulls(self._key), on=self._key, how="left", maintain_order="left")

    def _describe(self) -> dict[str, Any]:
        return {"key": self._key}
