"""A dataset of a whole table of a database."""

from typing import Any, NoReturn

import pandas as pd
import polars as pl
from kedro_datasets_experimental.polars.polars_database_dataset import PolarsDatabaseDataset
from sqlalchemy import delete, inspect, table


class DatabaseTableDataset(PolarsDatabaseDataset):
    """Saves a table's rows in place of those that a table of a database has, in one transaction, and loads them.

    Whoever reads the table meanwhile sees all of the former rows, or all of the new ones. The table is created if it
    does not exist; else it stays with its indexes, grants and views, and its columns have to be those of the data. Its
    name may have a schema, such as `shop.recommendations`; `con` of the credentials is the database's address for
    SQLAlchemy, such as postgresql+psycopg://user:password@host/shop.
    """

    def __init__(self, *, table_name: str, credentials: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        super().__init__(table_name=table_name, credentials=credentials, metadata=metadata)
        schema, _, self._name = table_name.rpartition(".")
        self._schema = schema or None

    def save(self, data: pl.DataFrame) -> NoReturn:  # type: ignore[misc]  # it returns, but the class it extends declares this
        with self.engine.begin() as connection:
            if self._exists():
                connection.execute(delete(table(self._name, schema=self._schema)))
            data.write_database(self.table_name, connection, if_table_exists="append")

    def load(self) -> pl.DataFrame:  # polars' own reader of SQLAlchemy's connections needs greenlet
        with self.engine.connect() as connection:
            return pl.from_pandas(pd.read_sql_table(self._name, connection, schema=self._schema))

    def _exists(self) -> bool:
        return inspect(self.engine).has_table(self._name, self._schema)
