"""Where monitoring stands in a run with an update."""

from kedro.framework.project import pipelines as of_project

from named import names_with
from reclora_kedro.pipeline_registry import create_pipelines


def test_with_an_update_the_lens_before_it_meets_the_log_after_it():
    of_project.set_requested(None)
    pipelines = create_pipelines(["update", "monitoring"], names_with())
    both = pipelines["update"] + pipelines["monitoring"]
    [measured] = [node for node in both.nodes if node.name.endswith("measure_drift")]
    assert "log" in both.all_outputs()
    assert {"log", "champion.lens", "champion.candidate_choice"} < {*measured.inputs}
    assert {"champion.lens", "champion.candidate_choice"} < both.inputs()
