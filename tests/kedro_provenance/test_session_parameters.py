"""Sessions in one process, whose pipelines differ by their parameters, in a project of Kedro's own kind."""

from pathlib import Path
from textwrap import dedent

import pytest
from kedro.framework.project import pipelines
from kedro.framework.session import KedroServiceSession, KedroSession
from kedro.framework.startup import bootstrap_project

ROOT = Path(__file__).parents[2]
FILES = {
    "pyproject.toml": """
        [tool.kedro]
        package_name = "namesakes"
        project_name = "Namesakes"
        kedro_init_version = "1.7.0"
    """,
    "src/namesakes/__init__.py": "",
    "src/namesakes/settings.py": """
        from kedro.framework.hooks import hook_impl
        from kedro_provenance.project import use_parameters

        class Hooks:
            @hook_impl
            def after_context_created(self, context):
                use_parameters(context.config_loader["parameters"])

        HOOKS = (Hooks(),)
        CONFIG_LOADER_ARGS = {"base_env": "base", "default_run_env": "local"}
    """,
    "src/namesakes/pipeline_registry.py": """
        from kedro.pipeline import Node, Pipeline
        from kedro_provenance.project import requested_pipelines, session_parameters

        def value(given):
            return given

        def register_pipelines():
            names = session_parameters()["names"]
            flow = Pipeline([Node(value, "params:value", name, name=f"make_{name}") for name in names])
            return {step: flow for step in requested_pipelines() or ("__default__", "flow", "other")}
    """,
    "conf/base/parameters.yml": "{names: [base], value: 0}",
    "conf/base/catalog.yml": "{}",
    "conf/local/parameters.yml": "{}",
    "conf/mine/parameters.yml": "{names: [mine, ours]}",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(dedent(text))
    bootstrap_project(folder)
    yield folder
    bootstrap_project(ROOT)


def results(session, **arguments):
    return {name: data.load() for name, data in session.run(**arguments).items()}


def test_without_a_session_the_base_environment_counts(project, monkeypatch):
    monkeypatch.chdir(project / "src")
    assert pipelines["flow"].all_outputs() == {"base"}


def test_sessions_that_are_opened_alternately_run_their_own_pipelines(project):
    first = KedroSession.create(project, runtime_params={"names": ["a"], "value": 1})
    second = KedroSession.create(project, env="mine")
    context = first.load_context()
    assert second.load_context().params["names"] == ["mine", "ours"]
    assert context.params["names"] == ["a"]
    assert results(first, pipeline_names=["flow"]) == {"a": 1}
    assert {*pipelines} == {"flow"}
    assert results(second) == {"mine": 0, "ours": 0}
    assert {*pipelines} == {"__default__", "flow", "other"}
    assert results(KedroSession.create(project)) == {"base": 0}


@pytest.mark.parametrize("serving_mode", [False, True])
def test_each_run_of_a_service_session_has_the_pipelines_of_its_own_parameters(project, serving_mode):
    session = KedroServiceSession.create(project_path=project, serving_mode=serving_mode)
    for name in ("a", "b", "a"):
        assert results(session, runtime_params={"names": [name], "value": 7}) == {name: 7}
    assert results(session) == {"base": 0}
