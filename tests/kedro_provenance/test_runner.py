"""Which nodes run when their turn comes, and what interrupted ones go on from."""

import pytest
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.pipeline import Node, Pipeline

from codeprint import Fingerprint
from kedro_provenance import plan
from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.recipe import FILE
from kedro_provenance.runner import IncrementalRunner
from small_flow import Project, StoppedError, resumed


@pytest.fixture
def project(tmp_path):
    resumed.clear()
    project = Project(tmp_path)
    project.run()
    return project


def test_a_node_whose_inputs_come_out_equal_is_not_run(project):
    project.give([3, 1, 2, -5])  # which is left out of the table, but is an item
    assert set(project.reasons()) == {"clean", "embed", "train", "score", "evaluate"}  # at most
    assert project.run() == ["clean", "embed", "train"]  # which leaves the same model
    assert project.run() == []


@pytest.mark.parametrize("stop_after", range(1, 4))
def test_a_run_that_ends_between_two_nodes_is_gone_on_with(project, stop_after):
    project.give([3, 1, 2, 2])
    assert project.run(stop_after=stop_after) + project.run() == ["clean", "train", "score", "evaluate"]


def test_what_was_made_before_by_the_same_recipe_is_taken(project):
    before = project.stored()
    project.parameters["lens"]["factor"] = 5
    assert project.run() == ["train", "score", "evaluate"]
    project.parameters["lens"]["factor"] = 2
    assert project.run() == []
    assert project.stored() == before
    assert project.reasons() == {}


@pytest.mark.parametrize("versioned", [True, False])
def test_data_in_two_formats_are_one_entry(tmp_path, versioned):
    flow = Pipeline(
        [
            Node(sorted, "raw", "table@json", name="sort"),
            Node(len, "table@text", "length", name="measure"),
        ]
    )

    def run(version, raw):
        (tmp_path / "raw.json").write_text(raw)
        table = {"filepath": f"{tmp_path}/table.json", "versioned": versioned}
        entries = {
            "raw": {"type": "json.JSONDataset", "filepath": f"{tmp_path}/raw.json"},
            "table@json": {"type": "json.JSONDataset", **table},
            "table@text": {"type": "text.TextDataset", **table},
            "length": {"type": "json.JSONDataset", "filepath": f"{tmp_path}/length.json", "versioned": True},
        }
        catalog = AtomicCatalog.from_config(entries, save_version=version)
        reasons = {step.node.name: step.reasons for step in plan.plan(flow, catalog)}
        IncrementalRunner().run(flow, catalog, _create_hook_manager(), version, only_missing_outputs=True)
        return catalog.load("length"), reasons["measure"]

    before, _ = run("1", "[1]")
    after, reasons = run("2", "[1, 2, 3]")
    assert after > before
    assert reasons == ("table@text is made again",)
    assert run("3", "[1, 2, 3]") == (after, ())


@pytest.mark.parametrize("versioned", [True, False])
def test_a_node_that_yields_its_outputs_in_parts_is_never_kept(tmp_path, versioned):
    cause = tmp_path / "cause"
    cause.touch()

    def parts():
        yield "first"
        if cause.exists():
            raise StoppedError
        if not versioned:  # each part replaces the one before
            yield "second"

    def run(version):
        entry = {"type": "text.TextDataset", "filepath": f"{tmp_path}/parts.txt", "versioned": versioned}
        catalog, runner = AtomicCatalog.from_config({"parts": entry}, save_version=version), IncrementalRunner()
        flow = Pipeline([Node(parts, None, "parts", name="parts")])
        runner.run(flow, catalog, _create_hook_manager(), version, only_missing_outputs=True)
        return runner.nodes_run, catalog.load("parts")

    with pytest.raises(StoppedError):
        run("1")
    cause.unlink()
    assert run("2") == run("3") == (1, "first" if versioned else "second")


def test_what_was_damaged_since_is_not_taken(project):
    model = project.newest("model") / "model.json"
    project.parameters["lens"]["factor"] = 5
    project.run()
    model.write_text("[]")
    project.parameters["lens"]["factor"] = 2
    assert project.run() == ["train"]


def interrupted(project):
    """Training with a setting by which it is interrupted."""
    project.parameters["lens"]["factor"] = 13
    assert project.run() == ["train"]
    resumed.clear()


def test_an_interrupted_node_finds_its_checkpoints(project):
    interrupted(project)
    assert project.run() == ["train"]
    assert resumed == [["step-1"]]


@pytest.mark.parametrize("change", ["code", "data", "setting"])
def test_checkpoints_of_another_recipe_are_not_found(project, monkeypatch, change):
    interrupted(project)
    if change == "code":
        monkeypatch.setattr(plan, "code_of", lambda *_: Fingerprint("other code"))
    elif change == "data":
        project.give([3, 1])
    else:
        project.parameters["lens"]["seed"] = 2
    project.run()
    assert resumed == [[]]


def test_checkpoints_go_once_all_outputs_are_there(project):
    checkpoints = project.folder / "checkpoints"
    assert not checkpoints.exists()
    interrupted(project)
    assert checkpoints.exists()
    project.parameters["lens"]["factor"] = 2
    assert project.run() == []  # the node is kept
    assert not checkpoints.exists()


def test_what_a_version_was_made_of_tells_its_seconds_and_its_code(project):
    stored = project.catalog().stored("model")
    assert stored.seconds > 0
    assert stored.recipe.node == "train"
    assert {each.entry for each in stored.lineage} == {"raw", "table", "items", "embeddings"}
    assert (project.newest("model") / FILE).exists()


def test_what_is_tagged_as_late_waits_for_all_others_that_do_not_wait_for_it(monkeypatch):
    monkeypatch.setattr("kedro_provenance.runner.of_hooks", lambda _: ["gpu"])

    def node(name, inputs, tags=()):
        return Node(lambda *_: 1, inputs, f"{name}.out", name=name, tags=tags)

    nodes = [
        node("embed", ["items"], ["gpu"]),
        node("log", ["items"]),
        node("read", ["log.out", "embed.out"]),
        node("split", ["log.out"]),
        node("train", ["embed.out"], ["gpu"]),
    ]
    assert [each.name for each in IncrementalRunner().ordered(Pipeline(nodes))] == [
        "log",
        "split",
        "embed",
        "read",
        "train",
    ]


def test_nobody_is_told_to_repeat_a_command_that_fails_at_its_first_node(tmp_path, caplog):
    project = Project(tmp_path)
    project.give("no list of numbers")
    with pytest.raises(TypeError):
        project.run(only=["clean"])
    assert "Repeat the previous command" not in caplog.text
