"""Raw tables of several data sets as one."""

from typing import Any

from kedro.io import AbstractDataset

from reclora_kedro.datasets.load_only import LoadOnlyDataset


class JoinedTablesDataset(LoadOnlyDataset):
    """Raw tables of several data sets, one below the other, with a column that says which data set a row is of.

    Ids get the data set's name in front, so that the same one in two data sets is not taken for one user or item. A
    column that a table lacks is null there.

    Args:
        tables: by the name of a data set, ``dataset``, a catalog entry as if it stood alone, and ``multiply``, numbers
            that columns are multiplied by, such as ratings of another scale; it may be left out.
        ids: columns of ids.
        column: name of the new column.
        metadata: anything for plugins such as kedro-viz.

    Raises:
        ValueError: a table has the new column already, or lacks one that is named.
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
        """The joined table, a polars frame."""
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
