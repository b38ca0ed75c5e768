"""The code of a method is part of the recipes of the nodes that run it, and of no others."""

import pytest

from kedro_provenance.code import _closure, code_digest
from reclora_kedro.pipelines import question_nodes
from reclora_kedro.pipelines.finetuning.nodes import train_adapter
from reclora_kedro.pipelines.history import nodes

PACKAGES = ("reclora_kedro", "reclora_extras")


@pytest.mark.parametrize("named", ["preference", "self_generated", "mtl_lora"])
def test_a_training_runs_the_code_of_the_methods_that_its_variant_names(named):
    plain = {"reclora", "click", "none"}
    assert code_digest(train_adapter, PACKAGES, plain | {named}) != code_digest(train_adapter, PACKAGES, plain)


@pytest.mark.parametrize("module", [question_nodes, nodes])
def test_the_code_of_nodes_does_not_cover_how_pipelines_are_wired(module):
    covered = _closure(frozenset({module.__name__}), frozenset(), frozenset(PACKAGES))
    assert module.__name__ in covered
    assert not {f"reclora_kedro.pipelines.{name}" for name in ("names", "questions", "lens.pipeline")} & covered
