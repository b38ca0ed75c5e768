"""What hooks add to a run."""

import gzip

import pytest
from kedro.io import DataCatalog, DatasetError, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro_datasets.polars import CSVDataset, EagerPolarsDataset

from reclora_kedro.hooks import ErrorHooks


def test_an_error_says_which_file_a_catalog_entry_is(tmp_path):
    file = tmp_path / "ratings.csv"
    file.write_text("rating\n")
    catalog = DataCatalog({"raw_interactions": CSVDataset(filepath=str(file)), "raw_users": MemoryDataset(None)})
    pipeline = Pipeline([Node(lambda log, users: log, ["raw_interactions", "raw_users"], "interactions", name="clean")])

    def notes(message):
        error = ValueError(message)
        ErrorHooks().on_pipeline_error(error, pipeline, catalog)
        return getattr(error, "__notes__", [])

    assert notes("raw_interactions and raw_users have no column 'x'") == [
        f"The catalog entry raw_interactions is the file {file}."
    ]
    assert notes(f"raw_interactions: failed to load {file}") == []
    assert notes("something else") == []


DATASETS = {
    "polars.CSVDataset": lambda file, load_args: CSVDataset(filepath=file, load_args=load_args),
    "polars.EagerPolarsDataset": lambda file, load_args: EagerPolarsDataset(
        filepath=file, file_format="csv", load_args=load_args
    ),
}


@pytest.mark.parametrize("name", ["log.tsv", "log.tsv.gz"])
@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("broken", ["1\t2\tfour", "1\t2\t4\t5"], ids=["a word for a number", "too many fields"])
def test_an_error_of_polars_says_which_line_is_broken(tmp_path, dataset, name, broken):
    lines = ["# a log", "user_id\tmovie_id\trating", *["1\t2\t4"] * 1_500, broken, *["1\t2\t4"] * 9]
    content = "\n".join(lines).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    log = DATASETS[dataset](str(tmp_path / name), {"separator": "\t", "comment_prefix": "#"})
    catalog = DataCatalog({"raw_interactions": log})
    pipeline = Pipeline([Node(lambda log: log, "raw_interactions", "interactions", name="clean")])
    with pytest.raises(DatasetError) as refusal:
        catalog.load("raw_interactions")
    ErrorHooks().on_pipeline_error(refusal.value, pipeline, catalog)
    assert refusal.value.__notes__ == [
        f"Line 1,503 of {tmp_path / name} cannot be read, where user_id, movie_id, rating are expected: {broken!r}. "
        "Correct it, or the load_args of the catalog entry raw_interactions."
    ]
