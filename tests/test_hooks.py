"""What hooks add to a run."""

from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro_datasets.polars import CSVDataset

from reclora_kedro.datasets.checkpoint_store import CheckpointStoreDataset
from reclora_kedro.hooks import CheckpointHooks, ErrorHooks


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


def test_checkpoints_go_when_their_own_adapter_is_saved(tmp_path):
    catalog = DataCatalog(
        {f"{v}.checkpoints": CheckpointStoreDataset(filepath=str(tmp_path / v)) for v in ("reclora", "shared_lora")}
    )
    for variant in ("reclora", "shared_lora"):
        catalog.load(f"{variant}.checkpoints").save("run", 1, {}, {})
    hooks = CheckpointHooks()
    hooks.after_catalog_created(catalog)
    for name in ("adapter", "reclora.training_log", "prompts"):
        hooks.after_dataset_saved(name)
    assert len(list(tmp_path.glob("*/run/*"))) == 2
    hooks.after_dataset_saved("reclora.adapter")
    assert [path.parts[-3] for path in tmp_path.glob("*/run/*")] == ["shared_lora"]
