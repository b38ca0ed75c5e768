"""Which variants the preparation of a base LLM works with."""

import pytest

from named import names_with
from reclora_extras.base_models import pipeline

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
    with pytest.raises(
        ValueError, match=r"base_model\.variant is null, but finetuning\.variants names tallrec: choose"
    ):
        pipeline.create_pipeline(names)
