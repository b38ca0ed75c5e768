"""A copy of the project with fabricated data, and one finished run of the whole DAG in it."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from fabricate import fabricate

ROOT = Path(__file__).parents[2]


def copy_project(folder):
    """The project in a folder of its own, with fabricated raw data."""
    shutil.copytree(ROOT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    (folder / "conf/local").mkdir()
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    fabricate(folder / "data/01_raw/fabricated")
    return folder


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A finished `kedro run --env test`: its project folder, catalog and the names of what it stored."""
    project = copy_project(tmp_path_factory.mktemp("project"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        bootstrap_project(project)
        with KedroSession.create(project, env="test") as session:
            session.run()
            catalog = session.load_context().catalog
    return SimpleNamespace(project=project, catalog=catalog, outputs=pipelines["__default__"].all_outputs())


@pytest.fixture
def fabricated_project(tmp_path):
    """A fresh copy of the project, not run yet."""
    return copy_project(tmp_path)
