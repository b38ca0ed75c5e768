"""What the pipelines of preferences read, and references that are refused."""

import pytest

from named import names_with
from reclora_kedro.pipelines import finetuning

HISTORIES = {"retrieved": {"kind": "retrieved", "k": 5}, "recent": {"kind": "recent", "k": 5}}


def variants_named(variants):
    return names_with({"history.short": HISTORIES, "finetuning.variants": variants})


def held_against(*references, kind="preference"):
    return {"history": "recent", "training": {"objective": {"kind": kind, "references": list(references)}}}


def test_a_variant_that_is_held_against_another_reads_what_it_says():
    names = variants_named({"tallrec": {"history": "retrieved"}, "dpo": held_against("tallrec", "untrained")})
    pipeline = finetuning.create_pipeline(names)
    [trained] = [node for node in pipeline.nodes if node.name == "dpo.train_adapter"]
    assert "tallrec.few_shot_logits" in trained.inputs
    [scored] = [node for node in pipeline.nodes if node.outputs == ["tallrec.few_shot_logits"]]
    assert {"tallrec.adapter", "learning.retrieved.prompts"} < {*scored.inputs}
    names = variants_named({"tallrec": {"history": "retrieved"}, "dpo": held_against("tallrec", kind="click")})
    assert "tallrec.few_shot_logits" not in finetuning.create_pipeline(names).all_outputs()


@pytest.mark.parametrize("reference", ["dpo", "tallrek", 3])
def test_a_reference_that_is_no_other_variant_is_refused_by_name(reference):
    names = variants_named({"tallrec": {"history": "retrieved"}, "dpo": held_against("untrained", reference)})
    message = rf"variants\.dpo\.training\.objective\.references names {reference!r}: .* untrained, lens, tallrec\."
    with pytest.raises(ValueError, match=message):
        finetuning.create_pipeline(names)


@pytest.mark.parametrize(
    ("variants", "circle"),
    [
        ({"dpo": held_against("kto"), "kto": held_against("dpo")}, "(dpo names kto, kto names dpo|kto .*, dpo .*)"),
        (
            {"a": held_against("b"), "b": held_against("lens", "c"), "c": held_against("a"), "d": held_against("a")},
            "(a names b, b names c, c names a|b .*, c .*, a .*|c .*, a .*, b .*)",
        ),
    ],
)
def test_references_in_a_circle_are_refused_by_their_names(variants, circle):
    names = variants_named(variants)
    with pytest.raises(
        ValueError, match=rf"objective\.references depend on each other in a circle: {circle}\. A reference is trained"
    ):
        finetuning.create_pipeline(names)
