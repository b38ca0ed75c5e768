"""Which nodes of a cell are run, and which had been; by another cell or by a run."""

import threading

import pytest
from kedro.pipeline import Node, Pipeline

from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.parameters import Block, reads
from reclora_kedro.cells import NodeRunner, one_at_a_time
from small_flow import FLOW, OUTPUTS, Project, StoppedError, resumed


class History(Block):
    seed: int
    rows: int


@pytest.fixture
def project(tmp_path):
    resumed.clear()
    return Project(tmp_path)


def run_cell(project, **lens):
    """Run a cell; its catalog, and how many nodes it ran."""
    catalog = project.catalog()
    catalog["params:lens"] = project.parameters["lens"] | lens
    catalog.revision = "abc"
    runner = NodeRunner(project.folder / "cells")
    runner.run(FLOW, catalog, run_id=f"cell-{lens}", only_missing_outputs=True)
    return catalog, runner.nodes_run


def test_the_same_cell_runs_nothing_and_leaves_no_version_of_the_project(project):
    catalog, nodes_run = run_cell(project)
    assert nodes_run == 5
    again, nodes_run = run_cell(project)
    assert nodes_run == 0
    assert again.load("metrics") == catalog.load("metrics") == {"score": 14, "rows": 3, "level": 0.9}
    assert (again.stored("model").revision, again.stored("model").recipe.node) == ("abc", "train")
    assert not any(project.catalog().exists(name) for name in OUTPUTS)


def test_a_cell_runs_what_reads_its_parameters_or_comes_out_differently(project):
    run_cell(project)
    assert run_cell(project, factor=5)[1] == 3
    assert run_cell(project, seed=2)[1] == 2  # train and score read it, and leave the same
    project.give([3, 1, 2, -5])
    assert run_cell(project)[1] == 3  # clean, embed, train
    project.give([3, 1, 2, 2])
    assert run_cell(project)[1] == 4


def test_a_cell_takes_what_a_run_left(project):
    project.run()
    catalog, nodes_run = run_cell(project)
    assert nodes_run == 0
    project.parameters["lens"]["factor"] = 5
    project.run()
    earlier, nodes_run = run_cell(project, factor=2)
    assert nodes_run == 0
    assert earlier.load("metrics") == catalog.load("metrics")
    assert run_cell(project)[0].load("metrics") == project.stored()["metrics"] != catalog.load("metrics")


def test_a_run_takes_what_a_cell_left(project):
    catalog, _ = run_cell(project)
    assert project.run() == []
    assert project.stored()["metrics"] == catalog.load("metrics")
    assert project.catalog().stored("model").seconds == catalog.stored("model").seconds


def test_what_was_damaged_in_the_memory_of_cells_is_made_again(project):
    catalog, _ = run_cell(project)
    [file] = project.folder.glob("cells/*/model/model.json/*/model.json")
    file.write_text("[]")
    again, nodes_run = run_cell(project)
    assert nodes_run == 1
    assert again.load("model") == [2, 4, 6]
    assert again.load("metrics") == catalog.load("metrics")


def test_a_node_that_was_stopped_runs_again_and_keeps_its_checkpoints(project):
    for _ in range(2):
        with pytest.raises(StoppedError):
            run_cell(project, factor=13)
    assert resumed == [[], ["step-1"]]
    [checkpoint] = project.folder.glob("cells/*/checkpoints/*/*/step-1")
    run_cell(project, factor=2)
    assert checkpoint.exists()
    assert not (project.folder / "checkpoints").exists()


def test_an_output_in_memory_cannot_be_kept(tmp_path):
    catalog = AtomicCatalog.from_config(
        {"table": {"type": "MemoryDataset"}, "raw": {"type": "MemoryDataset", "data": [1]}}
    )
    with pytest.raises(ValueError, match="The catalog entry table has no filepath"):
        NodeRunner(tmp_path).run(Pipeline([Node(sorted, "raw", "table", name="sort")]), catalog)


def test_one_at_a_time_makes_it(tmp_path):
    order = []

    def second():
        with one_at_a_time(tmp_path / "key"):
            order.append("second")

    with one_at_a_time(tmp_path / "key"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


def test_a_function_cannot_read_a_field_that_it_does_not_name():
    @reads(history=["rows"])
    def forgetful(history: History) -> int:
        return history.seed

    with pytest.raises(AttributeError):
        forgetful(History(seed=0, rows=1))


def test_what_a_cell_leaves_is_local_where_the_catalog_names_an_object_storage(tmp_path):
    entry = {"type": "text.TextDataset", "filepath": "s3://bucket/data/page.html"}
    entry["fs_args"] = {"use_ssl": True, "open_args_save": {"mode": "w"}}
    catalog = AtomicCatalog.from_config({"page": entry}, {"s3": {"key": "a"}})
    catalog.move("page", tmp_path)
    assert AtomicCatalog({"page": catalog.get("page")}).to_config()[0]["page"] == {
        "type": "kedro_datasets.text.text_dataset.TextDataset",
        "filepath": str(tmp_path / "page.html"),
        "fs_args": {"open_args_save": {"mode": "w"}},
        "credentials": None,
    }
