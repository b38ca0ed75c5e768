"""A study of two cells on a fabricated log with a tiny random LLM."""

import json
import subprocess
import sys

import pytest

from killing import killing_environment
from projects import copy_project, kedro_run
from reclora_kedro.cells import FOLDER


def traces(project):
    """Of every node that was run: its name, and when its trace was written."""
    files = (project / FOLDER).glob("*/trace.json")
    return {file: (json.loads(file.read_text())["node"], file.stat().st_mtime_ns) for file in files}


def nodes_of(traces):
    return sorted(node for node, _ in traces.values())


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """A project with a study that was killed in its first training, and then finished: project, traces then and now."""
    project = copy_project(tmp_path_factory.mktemp("project"))
    environment = killing_environment(project / "killing", "moved:2")
    command = ["kedro", "run", "--env=test", "--pipelines=study"]
    killed = subprocess.run(
        [sys.executable, "-m", *command], cwd=project, env=environment, capture_output=True, text=True
    )
    assert killed.returncode == 1
    before = traces(project)
    assert "A process that ran cells was killed" in killed.stdout + killed.stderr
    catalog = kedro_run(project, pipeline_names=["study"])
    return project, before, traces(project), catalog


def test_a_killed_study_goes_on_with_what_is_missing(studied):
    _, before, after, _ = studied
    assert 0 < len(before) < len(after)
    assert before.items() <= after.items()
    assert not any(node.endswith("train_adapter") for node in nodes_of(before))
