"""One finished run of the whole DAG, and fresh copies of the project."""

import fcntl
import os
import shutil
from types import SimpleNamespace

import pytest
from kedro.framework.project import pipelines

from projects import catalog_of, copy_project, kedro_run


@pytest.fixture(scope="session")
def pristine_run(tmp_path_factory):
    """The project of a finished `kedro run --env test`, of which tests take copies; made once for all processes."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with (folder / "pristine.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "pristine").exists():
            kedro_run(copy_project(folder / "unfinished"))
            (folder / "unfinished").rename(folder / "pristine")
    return folder / "pristine"


@pytest.fixture(scope="module")
def finished_run(pristine_run, tmp_path_factory):
    """A finished `kedro run --env test` of a file's own: its project folder, catalog and names of what it stored."""
    project = shutil.copytree(pristine_run, tmp_path_factory.mktemp("project") / "project")
    return SimpleNamespace(project=project, catalog=catalog_of(project), outputs=pipelines["__default__"].all_outputs())


@pytest.fixture
def fabricated_project(tmp_path):
    """A fresh copy of the project, not run yet."""
    return copy_project(tmp_path)
