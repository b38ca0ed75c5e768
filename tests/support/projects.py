"""Copies of the project with fabricated data, and runs in them as `kedro run --env test` makes them."""

import os
import shutil
import sys
from functools import cache
from pathlib import Path

import pytest
from kedro.framework import project as framework_project
from kedro.framework.cli import cli as kedro_cli
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from fabricate import fabricate
from kedro_provenance.runner import IncrementalRunner

ROOT = Path(__file__).parents[2]
MODELS = [
    "lens",
    "boosted_trees",
    "lens_probe",
    "statistics_probe",
    "prompt_likes",
    "untrained",
    "shared_lora",
    "reclora",
]
"""The models of a default run, in the order of its tables."""


def copy_project(folder):
    """The project in a folder of its own, with fabricated raw data."""
    fabricate(copy_code(folder) / "data/01_raw/fabricated")
    return folder


def copy_code(folder):
    """The project in a folder of its own, without any data."""
    shutil.copytree(ROOT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    (folder / "conf/local").mkdir()
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def type_command(project, *arguments):
    """Type a Kedro command in a project, with the project's own logging; in a process of its own, which it ends."""
    os.chdir(project)
    framework_project.LOGGING = framework_project._ProjectLogging()  # which reads conf/logging.yml, as a start does
    sys.argv = ["kedro", *arguments]
    kedro_cli.main()


def kedro_run(project, runtime_params=None, runner=None, env="test", **arguments):
    """Run pipelines in a session of their own; the catalog afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        bootstrap_project(project)
        with KedroSession.create(project, env=env, runtime_params=runtime_params) as session:
            patch.setattr(session, "load_context", cache(session.load_context))
            session.run(runner=runner or IncrementalRunner(), **arguments)
            return session.load_context().catalog


def kedro_command(function, project, runtime_params=None, env="test", **arguments):
    """Do what a command of `reclora_kedro.commands` does; the catalog afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        bootstrap_project(project)
        function(project, env=env, runtime_params=runtime_params, **arguments)
    return catalog_of(project, env)


def catalog_of(project, env="test"):
    """The catalog of a project in an environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        bootstrap_project(project)
        with KedroSession.create(project, env=env) as session:
            return session.load_context().catalog


def stored(project):
    """Content of every file that runs have left."""
    return {path: path.read_bytes() for path in (project / "data/test").glob("0*/**/*") if path.is_file()}
