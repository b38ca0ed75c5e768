"""The versions of a project that the service loads."""

from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from reclora_kedro.recommendation.sources import Choice

from live_service import ITEMS, block, small_log
from projects import ROOT
from reclora_kedro import cli
from reclora_kedro.pipelines import served_project
from reclora_kedro.recommendation.config import RecommendationConfig
from reclora_kedro.recommendation.second_stage import SecondStage


@pytest.mark.parametrize(("version", "items"), [("2026", ITEMS), ("2026", ITEMS - 1), (None, ITEMS)])
def test_the_other_sources_compete_without_a_retriever_of_the_log(caplog, monkeypatch, version, items):
    stored = SimpleNamespace(sizes=SimpleNamespace(items=items))
    catalog = SimpleNamespace(get=lambda entry: entry, load=lambda entry, version: stored)
    monkeypatch.setattr(served_project, "loaded_version", lambda entry: version)
    loading = served_project._Loading(catalog, SimpleNamespace(env="mine", params={}), [])
    config = RecommendationConfig.model_validate(block("recommendation"))
    retriever = loading._retriever(config, small_log())
    fits = version is not None and items == ITEMS
    assert retriever is (stored if fits else None)
    assert loading._versions == ({"retriever": "2026"} if fits else {})
    assert ("`kedro run --env mine --pipelines candidates`" in caplog.text) == (not fits)


@pytest.mark.parametrize(("version", "items", "is_used"), [("2026", 30, True), ("2026", 31, False), (None, 30, False)])
def test_a_choice_is_made_anew_where_none_is_stored_or_settings_differ(monkeypatch, version, items, is_used):
    stored = Choice(kind="ranker", order="candidates", stage=SecondStage(trees="tree"), made_with={"items": items})
    catalog = SimpleNamespace(get=lambda entry: entry, load=lambda entry, version: stored.model_dump(mode="json"))
    monkeypatch.setattr(served_project, "loaded_version", lambda entry: version)
    loading = served_project._Loading(catalog, SimpleNamespace(env="mine", params={}), [])
    assert loading._stored_choice({"items": 30}) == (stored if is_used else None)
    assert loading._versions == ({"candidate_choice": "2026"} if is_used else {})


@pytest.mark.parametrize(("version", "shown"), [("2026", {"auc": 0.7}), ("2025", None), (None, None)])
def test_metrics_of_another_lens_are_not_said_to_be_the_champions(monkeypatch, version, shown):
    catalog = SimpleNamespace(get=lambda entry: entry, load=lambda entry: {"auc": 0.7})
    monkeypatch.setattr(served_project, "loaded_version", {"lens_metrics": version}.get)
    loading = served_project._Loading(catalog, SimpleNamespace(env="mine", params={}), [])
    loading._versions["lens"] = "2026"
    assert loading._lens_metrics() == shown


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"variant": "nope"}, "service.variant is 'nope', but finetuning.variants names "),
        ({"token_variable": "NO_SUCH_TOKEN"}, "NO_SUCH_TOKEN, but this environment variable is not set"),
    ],
)
def test_settings_that_cannot_be_served_are_refused_before_anything_is_loaded_or_written(
    tmp_path, monkeypatch, change, words
):
    monkeypatch.chdir(ROOT)
    loads = []
    monkeypatch.setattr(served_project.ServedProject, "champion", lambda project: loads.append(project))
    given = ",".join(f"service.{name}={value}" for name, value in ({"folder": tmp_path / "journal"} | change).items())
    refused = CliRunner().invoke(cli.serve, ["--env", "test", "--params", given])
    assert words in refused.output
    assert (refused.exit_code, loads) == (1, [])
    assert not (tmp_path / "journal").exists()
