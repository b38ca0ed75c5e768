"""The code of a method is part of the recipes of the nodes that run it, and of no others."""

import pytest

from kedro_provenance.code import code_digest
from reclora_kedro.pipelines.finetuning.nodes import train_adapter

PACKAGES = ("reclora_kedro", "reclora_extras")


@pytest.mark.parametrize("named", ["preference", "self_generated", "dp_lora", "mtl_lora"])
def test_a_training_runs_the_code_of_the_methods_that_its_variant_names(named):
    plain = {"reclora", "click", "none"}
    assert code_digest(train_adapter, PACKAGES, plain | {named}) != code_digest(train_adapter, PACKAGES, plain)
