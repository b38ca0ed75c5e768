"""A dataset that joins raw tables of several data sets."""

from typing import Any

from kedro.io import AbstractDataset

from reclora_kedro.datasets.load_only import LoadOnlyDataset


class JoinedTablesDataset(LoadOnlyDataset):
    """Raw tables of several data sets, concatenated, with a column that names the data set of each row.

    Ids are prefixed with the data set's name, so that equal ids of two data sets stay different. Missing columns are
    null.

    Args:
        tables: by name of a data set, its ``dataset``, an ordinary catalog entry, and optionally ``multiply``, factors
            of columns, such as ratings on another scale.
        ids: columns of ids.
        column: name of the new column.
        metadata: metadata for plugins such as kedro-viz.

    Raises:
        ValueError: a table already has the new column, or lacks a named one.
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
        """Load the joined table, a polars frame."""
        import polars as pl

        return pl.concat([self._table(name) for name in self._datasets], how="diagonal_relaxed")

    def _table(self, name: str) -> Any:
        import polars as pl

        from reclora_kedro.interactions.raw_tables import RawColumns, as_polars

        table, factors = as_polars(self._datasets[name].load(), name), self._tables[name].get("multiply", {})
        if self._column in table.columns:
            raise ValueError(f"The table {name} has a column {self._column!r} already: give `column` another name.")
        raw = RawColumns(table, name)
        ids = ((pl.lit(f"{name}-") + raw.ids(each, "ids").cast(pl.String)).alias(each) for each in self._ids)
        numbers = (raw.numbers(each, "multiply") * factor for each, factor in factors.items())
        return table.with_columns(*ids, *numbers, pl.lit(name).alias(self._column))

    def _describe(self) -> dict[str, Any]:
        return {"tables": list(self._tables), "column": self._column}
