"""Which variants the preparation of a base LLM works with."""

import sys

import pytest

from named import names_with
from reclora_extras.base_models import pipeline
from reclora_extras.base_models.preparing import require_steps
from steps_of_base_model import config, random_llm

HISTORIES = {"retrieved": {"kind": "retrieved", "k": 5}, "recent": {"kind": "recent", "k": 5}}


def names_of(variants, others):
    return names_with({"history.short": HISTORIES, "finetuning.variants": variants} | others)


def test_a_base_llm_is_distilled_by_a_variant_that_is_named():
    for steps, variant in ((["prune"], None), (["prune", "distill"], "tallrec")):
        names = names_of({"tallrec": {"history": "recent"}}, {"base_model.steps": steps, "base_model.variant": variant})
        made = pipeline.create_pipeline(names)
        assert ("tallrec.adapter" in made.inputs()) == ("distill" in steps)
        assert ("learning.recent.prompts" if variant else "learning.retrieved.prompts") in made.datasets()
    names = names_of({"tallrec": {"history": "recent"}}, {"base_model.steps": ["distill"], "base_model.variant": None})
    with pytest.raises(ValueError, match=r"base_model\.variant is null: `finetuning\.variants` names tallrec\. Choose"):
        pipeline.create_pipeline(names)


STEP = """
from reclora_extras.base_models.steps import Step

class Halve(Step):
    has_teacher = True

    @staticmethod
    def remaining_layers(model, layers, config):
        return layers // 2
"""


def test_a_step_of_another_package_is_named_by_its_dotted_path(tiny_llm, tmp_path, monkeypatch):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/halve.py").write_text(STEP)
    monkeypatch.syspath_prepend(tmp_path)
    own = {"base_model.steps": ["outside.halve"], "base_model.variant": "tallrec"}
    made = pipeline.create_pipeline(names_of({"tallrec": {"history": "recent"}}, own))
    assert "tallrec.adapter" in made.inputs()
    with pytest.raises(ValueError, match=r"base_model\.drop_layers\.layers is 2.* 3 "):
        require_steps(random_llm(tiny_llm), config(steps=["outside.halve", "drop_layers"]))
    with pytest.raises(ValueError, match=r"'prun' is unknown.*the nearest one is prune"):
        config(steps=["prun"])
    del sys.modules["outside.halve"], sys.modules["outside"]
