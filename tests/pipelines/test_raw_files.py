"""What is said of raw tables in parts, and when."""

import polars as pl
import pytest
from kedro.pipeline import Node, Pipeline

from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.failures import RunRefusedError, explain_failure
from kedro_provenance.start import try_out
from reclora_kedro.pipelines.raw_files import explain, raw_file_checks
from starting import start

TABLE = pl.DataFrame({"user_id": [1], "rating": [0.5]})
CLEAN = Pipeline([Node(lambda raw: raw.collect(), "raw_interactions", "interactions", name="clean")])


@pytest.fixture
def parts(tmp_path):
    (tmp_path / "log").mkdir()
    TABLE.write_parquet(tmp_path / "log/part-0.parquet")
    return tmp_path / "log"


def run_on(filepath, **entry):
    config = {"type": "polars.LazyPolarsDataset", "filepath": str(filepath), "file_format": "parquet"} | entry
    return start(filepath.parent, CLEAN, AtomicCatalog.from_config({"raw_interactions": config}))


@pytest.mark.parametrize("filepath", ["log", "log/*.parquet"])
def test_an_empty_part_is_refused_before_the_run(tmp_path, parts, filepath):
    run = run_on(tmp_path / filepath)
    try_out(raw_file_checks, run)
    (parts / "part-1.parquet").write_bytes(b"")
    with pytest.raises(RunRefusedError, match=r"raw_interactions: .*part-1\.parquet is empty: copy"):
        try_out(raw_file_checks, run)


def test_an_error_of_polars_names_the_entry_and_the_part(tmp_path, parts):
    TABLE.drop("rating").write_parquet(parts / "part-1.parquet")
    run = run_on(parts)
    with pytest.raises(pl.exceptions.ColumnNotFoundError) as failed:
        CLEAN.nodes[0].run({"raw_interactions": run.catalog.load("raw_interactions")})
    explain_failure(failed.value, run, explain)
    assert failed.value.__notes__ == [
        f"The parts of raw_interactions do not fit together. {parts}/part-1.parquet has no column 'rating', but "
        f"{parts}/part-0.parquet has: write the parts with the same columns."
    ]


def test_a_versioned_entry_is_no_file_that_is_a_folder(tmp_path):
    entry = {"type": "json.JSONDataset", "filepath": str(tmp_path / "raw.json"), "versioned": True}
    catalog = AtomicCatalog.from_config({"raw_interactions": entry}, save_version="2026")
    catalog.save("raw_interactions", [1])
    error = ValueError(f"raw_interactions in {tmp_path}/raw.json is wrong")
    explain_failure(error, start(tmp_path, CLEAN, catalog), explain)
    assert not hasattr(error, "__notes__")
