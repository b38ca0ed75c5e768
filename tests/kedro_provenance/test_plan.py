"""What a run makes again, what it keeps, and what it may not read together."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kedro.io import MemoryDataset
from kedro.pipeline import Node

from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.parameters import Block, Private, Resource, reads
from kedro_provenance.plan import Step, deciding_values, foreign_origins, mixed_origins, plan, recipe_of
from kedro_provenance.recipe import FILE
from kedro_provenance.start import plan_table
from small_flow import FLOW, OUTPUTS, Project
from terminal import printed


@pytest.fixture
def project(tmp_path):
    project = Project(tmp_path)
    assert project.run() == ["clean", "embed", "train", "score", "evaluate"]
    return project


def test_what_fits_is_kept(project):
    assert project.reasons() == {}
    assert project.run() == []


def test_a_changed_parameter_is_named_with_both_values(project):
    project.parameters["lens"]["factor"] = 3
    assert project.reasons() == {
        "train": ["lens.factor 2 -> 3"],
        "score": ["model is made again", "lens.factor 2 -> 3"],
        "evaluate": ["scores, training_log are made again"],
    }
    project.parameters["lens"] = {"factor": 2, "depth": None}
    assert project.reasons()["train"] == ["lens.depth (not there) -> None", "lens.seed 1 -> (not there)"]
    project.parameters["lens"] = {"factor": 2, "seed": "1"}  # such as the id of a user
    assert project.reasons()["train"] == ["lens.seed 1 -> '1'"]


def test_long_names_in_a_plan_are_folded_and_not_cut():
    node = Node(len, "numbers", "length", name="of_a_long_name_" * 3, namespace="a_step")
    assert "…" not in printed(plan_table([Step(node, ("project.module_" + "of_a_long_name_" * 4,))]), width=80)


def test_another_order_of_parameters_is_seen(project):
    project.parameters["lens"] = dict(reversed(project.parameters["lens"].items()))
    assert project.reasons()["train"] == ["its parameters are in another order"]


def test_a_parameter_of_the_last_node_costs_the_last_node(project):
    project.parameters["evaluation"]["level"] = 0.95
    assert project.run() == ["evaluate"]


def merged(**tables):
    return {"all": [*tables.values()], "last": tables["new"]}


def test_arguments_and_keys_of_what_a_node_reads_and_leaves_count(project):
    catalog = project.catalog()

    def key(inputs, outputs):
        return recipe_of(Node(merged, inputs, outputs), catalog).key

    inputs, outputs = {"old": "table", "new": "items"}, {"all": "model", "last": "scores"}
    one = key(inputs, outputs)
    assert one != key({"new": "table", "old": "items"}, outputs)
    assert one != key(inputs, {"last": "model", "all": "scores"})


class Scoring(Block):
    seed: int
    tokens_per_batch: Resource[int]


@reads(scoring=["tokens_per_batch"])
def merge(log: list, scoring: Scoring, **adapters: str) -> list:
    return [scoring.tokens_per_batch]


def test_of_what_a_node_reads_settings_that_decide_nothing_are_left_out():
    inputs = {"log": "log", "scoring": "params:scoring", "one": "one.adapter"}
    for named in (inputs, dict(reversed(inputs.items()))):
        node = Node(merge, named, "merged")
        assert deciding_values(node, "params:scoring", Scoring(seed=1, tokens_per_batch=9)) == {}
    assert node.func([], Scoring(seed=1, tokens_per_batch=9), one="folder") == [9]


class Forgetting(Block):
    users: Private[tuple[int, ...]]


class Requests(Block):
    by_shop: dict[str, Forgetting]


def test_of_a_private_field_the_digest_decides():
    node = Node(lambda forgetting: None, "params:forgetting", "forgotten", name="forget")
    one, other = (Forgetting(users=(user,)) for user in (417, 418))
    for first, second in ((one, other), (Requests(by_shop={"a": one}), Requests(by_shop={"a": other}))):
        assert deciding_values(node, "params:forgetting", first) != deciding_values(node, "params:forgetting", second)
        assert "417" not in str(deciding_values(node, "params:forgetting", first))


def test_a_changed_raw_file_is_found(project):
    project.give([3, 1])
    assert project.reasons()["clean"] == ["raw: other content than it was made of"]
    project.give([3, 1, 2])
    assert project.reasons() == {}


def test_a_node_that_ran_alone_outdates_what_was_made_of_its_earlier_outputs(project):
    project.parameters["lens"]["factor"] = 5
    assert project.run(only=["train"]) == ["train"]
    assert "model: other content than it was made of" in project.reasons()["score"]
    assert "train" not in project.reasons()


def test_what_is_missing_changed_or_of_unknown_origin_is_made_again(project):
    version = project.newest("model")
    (version / "model.json").write_text("[2.0, 4.0, 6.5]")
    assert project.reasons()["train"] == ["the files of model were changed"]
    (version / FILE).unlink()
    assert project.reasons()["train"] == ["nothing says what model was made of"]
    for path in (version / "model.json", version):
        path.unlink() if path.is_file() else path.rmdir()
    assert project.reasons()["train"] == ["model is not there"]


def test_what_reads_data_in_memory_always_runs(project):
    catalog = project.catalog()
    catalog["table"] = MemoryDataset([1, 2, 3])
    [step] = plan(FLOW.only_nodes("train"), catalog)
    assert step.reasons[0] == "table is only known to this run"


def test_results_of_one_run_fit_together(project):
    assert mixed_origins(OUTPUTS, project.catalog()) == []


def test_results_of_two_lenses_do_not_fit_together(project):
    project.parameters["lens"]["factor"] = 5
    project.run(only=["train"])
    (sentence,) = mixed_origins(["scores", "training_log"], project.catalog())
    assert sentence.startswith("train has changed in between. Made scores with its run of")
    project.run(only=["evaluate"])
    (sentence,) = mixed_origins(["metrics"], project.catalog())  # what it is made of does not, either
    assert sentence.startswith("train has changed in between. Made metrics with its run of")
    project.run()
    assert mixed_origins(OUTPUTS, project.catalog()) == []


def test_a_raw_file_that_has_changed_does_not_fit_to_what_was_made_of_it(project):
    assert mixed_origins(["raw", "scores"], project.catalog()) == []
    project.give([9])
    (sentence,) = mixed_origins(["raw", "scores"], project.catalog())
    assert sentence.startswith("raw has changed in between")


def test_of_results_whose_origin_nothing_tells_nothing_is_promised(project, monkeypatch):
    monkeypatch.setattr("kedro_provenance.plan.all_pipelines", lambda: {"__default__": FLOW})
    (project.newest("scores") / FILE).unlink()
    (sentence,) = mixed_origins(["scores"], project.catalog())
    assert sentence.startswith("Nothing says what scores in")
    monkeypatch.setattr("kedro_provenance.plan.all_pipelines", lambda: {"__default__": FLOW.only_nodes("evaluate")})
    assert mixed_origins(["scores"], project.catalog()) == []  # raw data may have versions, too


def test_equal_content_has_equal_standing(project):
    project.give([3, 1, 2, 2])  # another table of the same items, so that the embeddings are kept
    assert project.run(only=["clean"]) == ["clean"]
    assert mixed_origins(["table", "embeddings"], project.catalog()) == []
    assert project.run() == ["train", "score", "evaluate"]
    assert mixed_origins([*OUTPUTS, "raw"], project.catalog()) == []
    project.give([3, 1, 2])
    assert project.run(only=["clean"]) == ["clean"]
    assert mixed_origins(["table", "embeddings"], project.catalog()) == []
    sentences = mixed_origins(["table", "embeddings", "model"], project.catalog())
    assert {sentence.partition(" has")[0] for sentence in sentences} == {"raw", "clean"}


def test_what_was_made_of_items_as_they_are_fits_to_any_other_table_of_these(project):
    project.give([3, 1, 2, 2])
    project.run(only=["clean"])
    project.run(only=["train", "score"])
    assert mixed_origins(["scores", "embeddings"], project.catalog()) == []


EDITS = st.one_of(
    st.tuples(st.just("raw"), st.lists(st.integers(0, 3), min_size=1, max_size=3)),
    st.tuples(st.just("factor"), st.integers(1, 3)),
    st.tuples(st.just("level"), st.sampled_from([0.9, 0.95])),
    st.tuples(st.just("flip"), st.sampled_from(OUTPUTS)),
    st.tuples(st.just("remove"), st.sampled_from(OUTPUTS)),
    st.tuples(st.just("run"), st.integers(0, 4)),
    st.tuples(st.just("run only"), st.sampled_from([node.name for node in FLOW.nodes])),
)


@settings(max_examples=12)
@given(edits=st.lists(EDITS, max_size=6))
def test_whatever_happened_before_a_run_ends_with_what_a_clean_run_leaves(edits, tmp_path_factory):
    project, clean_project = (Project(tmp_path_factory.mktemp("project")) for _ in range(2))
    for what, value in edits:
        if what == "raw":
            project.give(value)
            clean_project.give(value)
        elif what in ("factor", "level"):
            for each in (project, clean_project):
                each.parameters["lens" if what == "factor" else "evaluation"][what] = value
        elif what == "run":
            project.run(stop_after=value)
        elif (project.folder / f"{value}.json").exists():
            file = project.newest(value) / f"{value}.json"
            file.unlink() if what == "remove" else file.write_text(file.read_text() + " ")
        elif what == "run only":
            reasons = " ".join(text for texts in project.reasons().values() for text in texts)
            if "not there" not in reasons and "files" not in reasons:
                project.run(only=[value])
    project.run()
    clean_project.run()
    assert project.stored() == clean_project.stored()
    assert project.reasons() == {}


def test_what_was_made_of_another_data_set_is_of_foreign_origin(project):
    here = project.catalog()
    assert foreign_origins(OUTPUTS, here) == []
    project.give([9])  # where it lies: the run that reads it makes all again
    assert foreign_origins(OUTPUTS, project.catalog()) == []
    other = {"type": "json.JSONDataset", "filepath": str(project.folder / "other/raw.json")}
    (project.folder / "other").mkdir()
    (project.folder / "other/raw.json").write_text("[7, 8]")
    config, *_ = here.to_config()
    there = AtomicCatalog.from_config(config | {"raw": other})
    assert mixed_origins(["scores", "training_log"], there) == []  # of one data set, but not of this one
    (sentence,) = foreign_origins(["scores", "training_log"], there)
    assert "other/raw.json here. Made of " in sentence
    assert sentence.endswith("raw.json: scores, training_log.")
    (project.folder / "other/raw.json").write_text("[3, 1, 2]")
    assert foreign_origins(OUTPUTS, AtomicCatalog.from_config(config | {"raw": other})) == []  # a copy elsewhere
