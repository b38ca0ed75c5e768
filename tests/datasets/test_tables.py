"""Tables that are longer than memory."""

import polars as pl

from reclora_kedro.datasets.tables import ParquetTableDataset


def test_a_lazy_table_is_saved_and_loaded_lazily(tmp_path):
    dataset = ParquetTableDataset(filepath=f"{tmp_path}/table.parquet", file_format="parquet")
    for table in (pl.DataFrame({"item_id": [7, 8]}), pl.LazyFrame({"item_id": [9]})):
        dataset.save(table)
        loaded = dataset.load()
        assert isinstance(loaded, pl.LazyFrame)
        assert loaded.collect().equals(table.lazy().collect())
