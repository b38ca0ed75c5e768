"""The versions of a project that the service loads."""

from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project

from kedro_provenance.failures import RunRefusedError
from live_service import SOURCES, block
from projects import ROOT
from reclora_kedro import cli
from reclora_kedro.ingestion.forgotten import NOBODY
from reclora_kedro.pipelines import served_project
from reclora_kedro.recommendation.chosen import Choice
from reclora_kedro.recommendation.config import RecommendationConfig

STORED = Choice(kind="fusion", order="candidates", sources=SOURCES, reason="it was best")


def choice_of(monkeypatch, stored, **settings):
    """The choice that the service takes of what is stored, whatever the items of the log."""
    catalog = SimpleNamespace(get=lambda entry: entry, load=lambda entry, version: stored)
    monkeypatch.setattr(served_project, "loaded_version", lambda entry: stored and "2026")
    loading = served_project._Loading(catalog, SimpleNamespace(env="mine", params={}), [])
    chosen = loading._choice(RecommendationConfig.model_validate(block("recommendation", **settings)))
    assert loading._versions == {"candidate_choice": "2026"}
    return chosen


@pytest.mark.parametrize(
    "settings", [{}, {"method": "fusion"}, {"order": "candidates", "shortlist": 50}, {"sources": [*SOURCES][::-1]}]
)
def test_the_stored_choice_stays(monkeypatch, settings):
    assert choice_of(monkeypatch, STORED.model_dump(mode="json"), **settings) == STORED


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"sources": ["popularity", "item_knn"]},
            "the sources popularity, item_knn, linear, but recommendation.sources",
        ),
        (
            {"method": "ranker"},
            "candidate_choice is fusion in the order of candidates, but recommendation.method and order are ranker",
        ),
        ({"order": "lens"}, "recommendation.method and order are validation and lens"),
    ],
)
def test_a_stored_choice_of_other_settings_is_refused_with_what_to_do(monkeypatch, settings, words):
    with pytest.raises(RunRefusedError) as refused:
        choice_of(monkeypatch, STORED.model_dump(mode="json"), **settings)
    assert words in str(refused.value)
    assert "`kedro run --env mine --pipelines recommendation`" in str(refused.value)


def test_a_choice_of_an_earlier_release_or_none_is_refused(monkeypatch):
    with pytest.raises(
        RunRefusedError, match=r"from an earlier release: Choice has order: Field required\. Choose again"
    ):
        choice_of(monkeypatch, {"kind": "neighbours", "made_with": {}})
    with pytest.raises(RunRefusedError, match=r"no version of it is stored: .* --env mine --pipelines recommendation`"):
        choice_of(monkeypatch, None)


@pytest.mark.parametrize(
    ("named", "setting", "followed"), [("1", "promoted", "2"), (None, "promoted", None), ("1", "newest", None)]
)
def test_a_newer_choice_is_taken_where_a_model_names_all_else(monkeypatch, named, setting, followed):
    versions = {"champion": named, "candidate_choice": "1"}
    catalog = SimpleNamespace(get=lambda entry: SimpleNamespace(entry=entry, release=lambda: None))
    configuration = SimpleNamespace(params={"champion": setting}), catalog
    monkeypatch.setattr(served_project.ServedProject, "_read_configuration", lambda self: configuration)
    monkeypatch.setattr(served_project, "loaded_version", lambda dataset: versions[dataset.entry])
    project = served_project.ServedProject(ROOT, None, {})
    before = project.chosen_by()
    versions["candidate_choice"] = "2"  # without a new model
    assert project.chosen_by() == (named, followed)
    assert (project.chosen_by() != before) == (followed is not None)


def test_what_several_threads_read_is_made_before_any_of_them_asks():
    """Kedro's catalog makes a dataset when it is asked for, and gives None to a thread that asks meanwhile."""
    bootstrap_project(ROOT)
    project = served_project.ServedProject(ROOT, None, {})
    assert {*served_project.OF_SEVERAL_THREADS}.isdisjoint(project._catalog._lazy_datasets)
    assert project.forgotten() == NOBODY


def test_an_adapter_that_was_never_trained_is_left_out_where_the_lens_answers(monkeypatch, caplog):
    catalog = SimpleNamespace(get=lambda entry: entry)
    monkeypatch.setattr(served_project, "loaded_version", {"old.adapter": "2026"}.get)

    def serves(variant, model):
        params = {"service": {"model": model}}
        return served_project._Loading(catalog, SimpleNamespace(env="mine", params=params), [])._serves(variant)

    assert serves("old", "lens")
    assert serves("new", "llm")  # loading it says what is missing
    assert not caplog.records
    assert not serves("new", "lens")
    assert "new.adapter is stored: the service has no LLM. Train it with `kedro run --env mine" in caplog.text


@pytest.mark.parametrize(("version", "shown"), [("2026", {"auc": 0.7}), ("2025", None), (None, None)])
def test_metrics_of_another_lens_are_not_said_to_be_those_of_the_current_model(monkeypatch, version, shown):
    catalog = SimpleNamespace(get=lambda entry: entry, load=lambda entry: {"auc": 0.7})
    monkeypatch.setattr(served_project, "loaded_version", {"lens_metrics": version}.get)
    loading = served_project._Loading(catalog, SimpleNamespace(env="mine", params={}), [])
    loading._versions["lens"] = "2026"
    assert loading._lens_metrics() == shown


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"variant": "nope"}, "service.variant is 'nope': `finetuning.variants` names "),
        ({"token_variable": "NO_SUCH_TOKEN"}, "NO_SUCH_TOKEN, but this environment variable is not set"),
        ({"read_token_variable": "HOME"}, "token_variable is null, but there are tokens for writing or reading"),
        (
            {"token_variable": "HOME", "read_token_variable": "HOME"},
            "service.token_variable, read_token_variable name equal tokens",
        ),
    ],
)
def test_settings_that_cannot_be_served_are_refused_before_anything_is_loaded_or_written(
    tmp_path, monkeypatch, change, words
):
    monkeypatch.chdir(ROOT)
    loads = []
    monkeypatch.setattr(served_project.ServedProject, "current_model", lambda project: loads.append(project))
    given = ",".join(
        f"service.{name}={value}" for name, value in ({"journal": tmp_path / "journal/journal.sqlite"} | change).items()
    )
    refused = CliRunner().invoke(cli.serve, ["--env", "test", "--params", given])
    assert words in refused.output
    assert (refused.exit_code, loads) == (1, [])
    assert not (tmp_path / "journal").exists()
