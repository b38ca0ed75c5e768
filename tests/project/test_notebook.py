"""The notebook, executed on a finished run."""

from notebooks import shown_by
from projects import ROOT


def test_the_notebook_reads_a_finished_run(finished_run):
    shown = shown_by(ROOT / "notebooks/explore_a_run.ipynb", finished_run.project)
    assert "Like" in shown or "like" in shown
    assert "reclora" in shown
