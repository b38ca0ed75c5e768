"""The code of a method is part of the recipes of the nodes that run it, and of no others."""

import pytest

from codeprint import fingerprint
from reclora_kedro.pipelines.evaluation.nodes import compute_segments
from reclora_kedro.pipelines.finetuning.nodes import train_adapter
from reclora_kedro.pipelines.history.nodes import build_log

PACKAGES = ("reclora_kedro", "reclora_extras")


METHODS = {
    "preference": "objectives.preferences",
    "self_generated": "objectives.self_generated",
    "mtl_lora": "mtl_lora",
}


@pytest.mark.parametrize("named", METHODS)
def test_a_training_runs_the_code_of_the_methods_that_its_variant_names(named):
    code = fingerprint(train_adapter, packages=PACKAGES, values={"reclora", "click", "none", named})
    assert any(name.startswith(f"reclora_extras.{METHODS[named]}.") for name in code.parts)


@pytest.mark.parametrize("function", [compute_segments, build_log])
def test_the_code_of_nodes_does_not_cover_how_pipelines_are_wired(function):
    covered = {name.rpartition(".")[0] for name in fingerprint(function, packages=PACKAGES).parts}
    assert function.__module__ in covered
    assert not {f"reclora_kedro.pipelines.{name}" for name in ("names", "questions", "lens.pipeline")} & covered
