"""One finished run of the whole DAG, and fresh copies of the project."""

from types import SimpleNamespace

import pytest
from kedro.framework.project import pipelines

from projects import copy_project, kedro_run


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A finished `kedro run --env test`: its project folder, catalog and the names of what it stored."""
    project = copy_project(tmp_path_factory.mktemp("project"))
    catalog = kedro_run(project)
    return SimpleNamespace(project=project, catalog=catalog, outputs=pipelines["__default__"].all_outputs())


@pytest.fixture
def fabricated_project(tmp_path):
    """A fresh copy of the project, not run yet."""
    return copy_project(tmp_path)
