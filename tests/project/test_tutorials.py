"""The tutorials in notebooks/, executed on a small finished run."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from notebooks import served, shown_by
from projects import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.benchmark]


@pytest.fixture
def project(pristine_run, tmp_path):
    return shutil.copytree(pristine_run, tmp_path / "project")


def shown(name, project, **environment):
    return shown_by(ROOT / f"notebooks/{name}.ipynb", project, **environment)


def test_a_csv_file_becomes_recommendations(project):
    """It takes 13 s: `kedro new-log` starts from nothing, and tries what it wrote by a run."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    text = shown("from_csv_to_recommendations", project, PATH=path)
    assert "order_date (" in text  # what was guessed
    assert "product_name" in text


def test_lists_are_made_without_a_project(tmp_path):
    text = shown("recommend_from_python", tmp_path)
    assert "validation likes" in text
    assert "hit_rate_low" in text


def test_a_report_is_read_and_a_model_chosen(project):
    text = shown("read_a_report", project)
    assert "No significant difference, but more may be lost: " in text
    assert "Take " in text


def test_an_llm_is_personalized(project):
    assert "probability of Yes" in shown("personalize_an_llm", project)


def test_a_lens_is_added(project):
    """It takes 6 s: two lenses are trained."""
    assert "my_lenses.product" in shown("add_a_lens", project)


def test_a_recommender_serves_is_updated_rolled_back_and_forgets(project):
    """It takes 10 s: a service waits for three runs, each in a process that starts from nothing."""
    with served(project) as address:
        text = shown("serve_update_forget", project, SERVICE=address)
    assert "unknown_user" in text
    assert "'of_forgotten_users': 1" in text
