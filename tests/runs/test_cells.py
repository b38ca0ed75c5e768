"""Which nodes of a cell are run, and which had been."""

from collections import Counter
from pathlib import Path

import pytest
from kedro.pipeline import Node, Pipeline

from reclora_kedro.parameters import Block, reads
from reclora_kedro.runs.catalog import AtomicCatalog
from reclora_kedro.runs.cells import CHECKPOINT_STORES, MemoizedRun, moved

ran = Counter()


class History(Block):
    seed: int
    k: int
    rows: int


def clean(raw: list) -> list:
    ran["clean"] += 1
    return [value for value in raw if value > 0]


@reads(history=["rows"])
def choose(table: list, history: History) -> list:
    ran["choose"] += 1
    return table[: history.rows]


def train(chosen: list, history: History, checkpoints: object) -> list:
    ran["train"] += 1
    folder = Path(checkpoints.folder)
    folder.mkdir(parents=True, exist_ok=True)
    if history.seed == 13:
        (folder / "step-1").write_text("half")
        raise KeyboardInterrupt
    return [*chosen, history.k]


@pytest.fixture(autouse=True)
def forget():
    ran.clear()


@pytest.fixture
def run(tmp_path):
    """Run the flow with a raw table and a block of parameters; how often each node was run."""

    def run(raw=(1, -1, 2), **history):
        entries = {
            name: {"type": "json.JSONDataset", "filepath": str(tmp_path / f"{name}.json"), "versioned": True}
            for name in ("table", "chosen", "adapter")
        }
        entries["raw"] = {"type": "json.JSONDataset", "filepath": str(tmp_path / "raw.json")}
        entries["checkpoints"] = {
            "type": f"{CHECKPOINT_STORES}CheckpointStoreDataset",
            "filepath": str(tmp_path / "checkpoints"),
        }
        (tmp_path / "raw.json").write_text(str(list(raw)))
        catalog = AtomicCatalog.from_config(entries)
        catalog["params:history"] = History(**{"seed": 0, "k": 5, "rows": 1} | history)
        flow = Pipeline(
            [
                Node(clean, "raw", "table", name="clean"),
                Node(choose, ["table", "params:history"], "chosen", name="choose"),
                Node(train, ["chosen", "params:history", "checkpoints"], "adapter", name="train"),
            ]
        )
        memoized = MemoizedRun(catalog, tmp_path / "study", "abc")
        ran.clear()
        for node in flow.nodes:
            memoized.run(node)
        assert not (tmp_path / "table.json").exists()
        return dict(ran)

    return run


def test_the_same_run_runs_nothing(run):
    assert run() == {"clean": 1, "choose": 1, "train": 1}
    assert run() == {}


def test_a_changed_parameter_runs_the_nodes_that_read_it(run):
    run()
    assert run(k=6) == {"train": 1}
    assert run(rows=2) == {"choose": 1, "train": 1}
    assert run() == {}


def test_a_changed_raw_file_runs_what_comes_out_differently(run):
    run()
    assert run(raw=(1, -5, 2)) == {"clean": 1}
    assert run(raw=(1, -5, 3)) == {"clean": 1, "choose": 1}
    assert run(raw=(4, -5, 3)) == {"clean": 1, "choose": 1, "train": 1}


def test_a_node_that_was_stopped_runs_again_and_keeps_its_checkpoints(run, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(seed=13)
    [checkpoint] = (tmp_path / "study").glob("*/checkpoints/step-1")
    with pytest.raises(KeyboardInterrupt):
        run(seed=13)
    assert ran == {"train": 1}
    assert checkpoint.exists()


def test_an_output_in_memory_cannot_be_kept(tmp_path):
    catalog = AtomicCatalog.from_config(
        {"table": {"type": "MemoryDataset"}, "raw": {"type": "MemoryDataset", "data": [1]}}
    )
    with pytest.raises(ValueError, match="The catalog entry table has no filepath"):
        MemoizedRun(catalog, tmp_path, None).run(Node(clean, "raw", "table", name="clean"))


def test_a_function_cannot_read_a_field_that_it_does_not_name():
    @reads(history=["rows"])
    def forgetful(history: History) -> int:
        return history.k

    with pytest.raises(AttributeError):
        forgetful(History(seed=0, k=5, rows=1))


def test_what_a_cell_leaves_is_local_where_the_catalog_names_an_object_storage(tmp_path):
    entry = {"type": "text.TextDataset", "versioned": True, "credentials": {"key": "a"}, "filepath": "data/page.html"}
    entry["fs_args"] = {"use_ssl": True, "open_args_save": {"mode": "w"}}
    local = {"type": "text.TextDataset", "filepath": str(tmp_path / "page.html")}
    assert moved("page", entry, tmp_path) == local | {key: entry[key] for key in ("credentials", "fs_args")}
    entry["filepath"] = "s3://bucket/data/page.html"
    assert moved("page", entry, tmp_path) == local | {"fs_args": {"open_args_save": {"mode": "w"}}}
