"""Which versions a run reads once an update has named some of them the current model."""

import json
import shutil

import pytest
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DatasetError
from kedro.pipeline import Node, Pipeline

from kedro_provenance import failures
from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.plan import foreign_origins, mixed_origins
from kedro_provenance.runner import IncrementalRunner
from kedro_provenance.start import pin_versions, remedy
from kedro_provenance.unfinished import forget, take_over
from reclora_kedro.current_model import CurrentModelAliases, model_history
from reclora_kedro.update.promotion import rolled_back
from starting import start

TRAIN = Pipeline(
    [
        Node(lambda raw: sorted(raw), "raw", "log", name="build"),
        Node(lambda log: {"learned": log}, "log", "lens", name="train"),
    ]
)
UPDATE = Pipeline(
    [
        Node(lambda log, raw: sorted({*log, *raw}), ["previous.log", "raw"], "log", name="append"),
        Node(lambda lens, log: {"grown": lens, "learned": log}, ["champion.lens", "log"], "lens", name="promote"),
        Node(
            lambda versions, history, lens: {
                "versions": versions(["lens", "log"]),
                "decision": {"chosen": "challenger"},
                "before": len(history),
            },
            ["versions_in_use", "model_history", "lens"],
            "champion",
            name="name_current_model",
        ),
    ]
)
READ = Pipeline([Node(lambda log, lens: [log, lens], ["log", "lens"], "recommendations", name="recommend")])

ALIASES = CurrentModelAliases(readers=["recommendation"])


@pytest.fixture(autouse=True)
def _aliases(monkeypatch):
    monkeypatch.setattr("kedro_provenance.project.alias_names", lambda: ALIASES.names)


@pytest.fixture
def project(tmp_path):
    (tmp_path / "raw.json").write_text("[2, 1]")
    return tmp_path


def begun(project, pipeline, version, names=("update",), current="promoted", news="news", **params):
    """A run after the steps of its start that models are for."""
    stored = {
        "champion.lens": "lens",
        "previous.log": "log",
        "champion.candidate_choice": "candidate_choice",
        **{name: name for name in ("log", "lens", "candidate_choice", "champion", "recommendations")},
    }
    entries = {
        name: {"type": "json.JSONDataset", "filepath": f"{project}/{file}.json", "versioned": True}
        for name, file in stored.items()
    }
    entries |= {
        name: {"type": "json.JSONDataset", "filepath": f"{project}/{file}.json"}
        for name, file in {"raw": "raw", "news": news}.items()
    }
    for name in ("model_history", "versions_in_use"):
        entries[name] = {"type": "MemoryDataset", "copy_mode": "assign"}
    catalog = AtomicCatalog.from_config(entries, save_version=version, load_versions=params.get("load_versions"))
    run = start(
        project,
        pipeline,
        catalog,
        {"champion": current},
        pipeline_names=list(names),
        aliases=ALIASES,
        **params,
    )
    pin_versions(run)
    run.aliases.begin(run)
    return run


def finished(project, pipeline, version, **arguments):
    """The catalog of a run that has ended."""
    run = begun(project, pipeline, version, **arguments)
    IncrementalRunner().run(pipeline, run.catalog, _create_hook_manager(), version)
    return run.catalog


def version_of(project, name, version):
    return json.loads((project / f"{name}.json/{version}/{name}.json").read_text())


def test_an_update_goes_on_from_the_current_model_and_names_the_next_one(project):
    finished(project, TRAIN, "1")
    (project / "raw.json").write_text("[3]")
    catalog = finished(project, UPDATE, "2")
    assert version_of(project, "lens", "2") == {"grown": {"learned": [1, 2]}, "learned": [1, 2, 3]}
    assert [(each["version"], each["versions"]) for each in model_history(catalog)] == [
        ("2", {"lens": "2", "log": "2"}),
        ("1", {"lens": "1", "log": "1"}),
    ]
    finished(project, TRAIN, "3")  # which no update has chosen
    finished(project, UPDATE, "4")
    assert version_of(project, "lens", "4")["grown"]["learned"] == [1, 2, 3]
    finished(project, UPDATE, "5", current="newest")
    assert version_of(project, "lens", "5")["grown"] == version_of(project, "lens", "4")


def test_no_current_model_names_the_choice_which_lasts_over_updates(project):
    finished(project, Pipeline([Node(lambda raw: raw, "raw", "candidate_choice", name="choose")]) + TRAIN, "1")
    measure = Pipeline([Node(lambda choice: choice, "champion.candidate_choice", "drift", name="measure")])
    catalog = finished(project, UPDATE + measure, "2")
    assert [{*each["versions"]} for each in model_history(catalog)] == [{"lens", "log"}] * 2


def test_what_makes_no_model_names_no_current_model(project):
    finished(project, TRAIN, "1")
    measure = Pipeline([Node(lambda lens: lens, "champion.lens", "drift", name="measure")])
    catalog = finished(project, measure, "2", names=["monitoring"])
    assert catalog.load("drift") == {"learned": [1, 2]}
    assert model_history(catalog) == []


def test_what_updates_read_and_rollbacks_go_back_to_stays(project):
    for version, pipeline in zip("1234567", [TRAIN, UPDATE, TRAIN, UPDATE, TRAIN, UPDATE, UPDATE], strict=True):
        catalog = finished(project, pipeline, version, current="newest" if version == "6" else "promoted")
    assert [each["decision"]["chosen"] for each in model_history(catalog)] == [
        *("challenger", "challenger", "newest"),
        *("challenger", "challenger", "newest"),
    ]
    in_use = ALIASES.versions_in_use(catalog)
    assert {version for entry, version in in_use if entry == "lens"} == {"4", "5", "6", "7"}


def test_a_rollback_leaves_rows_in_tables_but_an_update_can_begin_from_tables_without_them(project):
    finished(project, TRAIN, "1")
    (project / "raw.json").write_text("[666]")
    finished(project, UPDATE, "2")
    finished(project, Pipeline([Node(rolled_back, "model_history", "champion", name="roll_back")]), "3")
    (project / "raw.json").write_text("[3]")
    finished(project, UPDATE, "4")
    assert version_of(project, "lens", "4") == {"grown": {"learned": [1, 2]}, "learned": [1, 2, 3, 666]}
    finished(project, UPDATE, "5", load_versions={"previous.log": "1"})
    catalog = finished(project, UPDATE, "6")
    assert catalog.load("log", "5") == catalog.load("log", "6") == [1, 2, 3]


def test_a_killed_first_update_does_not_go_on_from_itself(project):
    finished(project, TRAIN, "1")
    for version in ("2", "3"):  # killed before it names its model
        finished(project, UPDATE.only_nodes("append", "promote"), version)
        assert version_of(project, "lens", version)["grown"] == {"learned": [1, 2]}


def test_a_killed_update_goes_on_from_what_it_found_when_it_is_typed_again(project):
    finished(project, TRAIN, "1")
    (project / "raw.json").write_text("[3]")
    for nodes, version in (("append",), "2"), (("append", "promote", "name_current_model"), "3"), ((), "4"):
        run = begun(project, UPDATE, version, run_id=version)
        take_over(run)
        assert run.catalog.load("previous.log") == [1, 2]  # although 2 has left another log, and 3 has named it
        assert [each["version"] for each in run.catalog.load("model_history")] == ["1"]
        IncrementalRunner().run(UPDATE.only_nodes(*nodes), run.catalog, _create_hook_manager(), version)
    forget(run)
    assert begun(project, UPDATE, "5").catalog.load("previous.log") == [1, 2, 3]


def test_a_file_of_news_is_gone_when_the_next_one_comes(project):
    finished(project, TRAIN, "1")
    append = Pipeline([Node(lambda log, news: sorted({*log, *news}), ["previous.log", "news"], "log", name="append")])
    (project / "monday.json").write_text("[3]")
    finished(project, append, "2", news="monday")
    (project / "monday.json").unlink()
    (project / "tuesday.json").write_text("[4]")
    run = begun(project, READ, "3", names=["recommendation"], news="tuesday")
    assert foreign_origins(["log"], run.catalog) == []


def test_some_pipelines_read_the_current_model_by_the_entries_own_names(project):
    finished(project, TRAIN, "1")
    finished(project, UPDATE, "2")
    (project / "raw.json").write_text("[9]")
    finished(project, TRAIN, "3")

    def read(*names, **arguments):
        return begun(project, READ, "4", names=names, **arguments).catalog.load("log")

    assert read("recommendation") == read("candidates", "recommendation") == [1, 2]
    assert read("evaluation") == read("recommendation", current="newest") == [9]
    assert read("recommendation", load_versions={"log": "3"}) == [9]


def test_a_damaged_model_hinders_those_that_read_it_alone(project):
    finished(project, TRAIN, "1")
    finished(project, UPDATE, "2")
    version = project / "champion.json/2"
    (version / "champion.json").write_text("{}")
    begun(project, READ, "3", names=["evaluation"])
    with pytest.raises(DatasetError, match=rf"champion in {version} .* Remove that folder, so that the version before"):
        begun(project, READ, "3", names=["recommendation"])
    shutil.rmtree(version)
    assert begun(project, READ, "3", names=["recommendation"]).catalog.load("log") == [1, 2]


def test_what_the_current_model_does_not_name_is_not_said_to_be_mended_by_a_run(project):
    finished(project, TRAIN, "1")
    finished(project, UPDATE, "2")
    said = remedy(begun(project, READ, "3", names=["recommendation"]))
    assert said.startswith("Of lens, log, the current model names the versions")
    assert "--only-missing-outputs" not in said
    assert "--only-missing-outputs" in remedy(begun(project, READ, "3", names=["evaluation"]))


def test_what_an_update_leaves_is_of_one_origin(project):
    finished(project, TRAIN, "1")
    (project / "raw.json").write_text("[3]")
    catalog = finished(project, UPDATE, "2")
    assert mixed_origins(["log", "lens"], catalog) == []
    assert mixed_origins(["log", "champion.lens", "previous.log"], catalog) == []
    finished(project, UPDATE.only_nodes("append"), "3")
    (project / "raw.json").write_text("[4]")
    catalog = finished(project, UPDATE.only_nodes("append"), "4")
    assert any("append has changed" in sentence for sentence in mixed_origins(["log", "lens"], catalog))


def test_what_is_not_there_is_made_by_a_pipeline_that_needs_no_earlier_version(monkeypatch):
    class Pipelines(dict):
        def set_requested(self, names):
            assert names is None

    monkeypatch.setattr(failures, "pipelines", Pipelines(lens=TRAIN, update=UPDATE))
    assert [*failures.how_to_make(["lens"], "first", None)] == [
        "Make these first with `kedro run --pipelines lens`: lens."
    ]
