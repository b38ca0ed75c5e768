"""The code that the recipes of nodes cover."""

import pytest

from codeprint import fingerprint
from reclora_kedro.pipelines.evaluation.nodes import compute_segments
from reclora_kedro.pipelines.history.nodes import build_log


@pytest.mark.parametrize("function", [compute_segments, build_log])
def test_the_code_of_nodes_does_not_cover_how_pipelines_are_wired(function):
    covered = {name.rpartition(".")[0] for name in fingerprint(function, packages=["reclora_kedro"]).parts}
    assert function.__module__ in covered
    assert not {f"reclora_kedro.pipelines.{name}" for name in ("names", "questions", "lens.pipeline")} & covered
