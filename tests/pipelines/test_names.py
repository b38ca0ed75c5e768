import pytest

from reclora_kedro.pipelines import base_model, finetuning, scoring
from reclora_kedro.pipelines import names as configured_names
from reclora_kedro.pipelines.names import (
    history_names,
    merged_variants,
    merging_history,
    optional_variant_of,
    remember_parameters,
    variant_histories,
    variant_of,
)

HISTORIES = {"retrieved": {"kind": "retrieved", "k": 5}, "recent": {"kind": "recent", "k": 5}}


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(configured_names, "_of_the_session", None)


def remember(variants, short=HISTORIES, **blocks):
    known = {"history": {"short": short}, "finetuning": {"variants": variants}, "prompt": {"template": "answers"}}
    remember_parameters(known | blocks)


def inputs_of(pipeline):
    return {node.namespace: set(node.inputs) for node in pipeline.nodes if node.namespace}


def test_each_variant_reads_the_prompts_of_its_own_history():
    remember({"tallrec": {"history": "recent"}, "rella": {"history": "retrieved"}})
    for questions, step in (("learning", finetuning), ("test", scoring)):
        pipeline = step.create_pipeline()
        inputs = inputs_of(pipeline)
        assert {"answers.prompt_template"} < inputs[questions]
        assert f"{questions}.recent.prompts" in inputs["tallrec"]
        assert f"{questions}.retrieved.prompts" in inputs["rella"]
        assert {f"{questions}.recent.prompts", f"{questions}.retrieved.prompts"} < pipeline.all_outputs()


def held_against(*references, kind="preference"):
    return {"history": "recent", "training": {"objective": {"kind": kind, "references": list(references)}}}


def test_a_variant_that_is_held_against_another_reads_what_it_says():
    remember({"tallrec": {"history": "retrieved"}, "dpo": held_against("tallrec", "untrained")})
    pipeline = finetuning.create_pipeline()
    assert inputs_of(pipeline.filter(node_names=["dpo.train_adapter"]))["dpo"] >= {"tallrec.few_shot_logits"}
    [scored] = [node for node in pipeline.nodes if node.outputs == ["tallrec.few_shot_logits"]]
    assert {"tallrec.adapter", "learning.retrieved.prompts"} < {*scored.inputs}
    remember({"tallrec": {"history": "retrieved"}, "dpo": held_against("tallrec", kind="click")})
    assert "tallrec.few_shot_logits" not in finetuning.create_pipeline().all_outputs()


@pytest.mark.parametrize("reference", ["dpo", "tallrek", 3])
def test_a_reference_that_is_no_other_variant_is_refused_by_name(reference):
    remember({"tallrec": {"history": "retrieved"}, "dpo": held_against("untrained", reference)})
    message = rf"variants\.dpo\.training\.objective\.references names {reference!r}, but .* untrained, lens, tallrec\."
    with pytest.raises(ValueError, match=message):
        finetuning.create_pipeline()


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
    remember(variants)
    with pytest.raises(ValueError, match=rf"objective\.references go in a circle: {circle}\. A reference is trained"):
        finetuning.create_pipeline()


def test_the_untrained_llm_sees_the_first_history():
    remember({"tallrec": {"history": "recent"}})
    [untrained] = [node for node in scoring.create_pipeline().nodes if node.name == "scoring.score_untrained"]
    assert "test.retrieved.prompts" in untrained.inputs


def test_null_drops_a_name_of_conf_base():
    remember({"shared_lora": None, "tallrec": {"history": "recent"}}, HISTORIES | {"retrieved": None})
    assert variant_histories() == {"tallrec": "recent"}
    assert history_names() == ("recent",)


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        (
            {"tallrec": {"history": "latest"}},
            r"variants\.tallrec\.history is 'latest', but .* names retrieved, recent:",
        ),
        ({"tallrec": {}}, r"variants\.tallrec\.history is None"),
        ({"recent": {"history": "recent"}}, r"names 'recent', which is also the name of a history"),
        ({"lens": {"history": "recent"}}, r"finetuning\.variants names 'lens'\. A name .* other than base_llm"),
        (
            {"bootstrap": {"history": "recent"}},
            r"finetuning\.variants names 'bootstrap'\. A name .* other than base_llm",
        ),
        ({"svd": {"history": "recent"}}, r"finetuning\.variants names 'svd'\. A name .* other than base_llm"),
        ({"log": {"history": "recent"}}, r"finetuning\.variants names 'log'\. A name .* other than base_llm"),
        *(
            (
                {name: {"history": "recent"}},
                r"finetuning\.variants names .*\. A name begins with a letter and has at most",
            )
            for name in ("my.lora", "../lora", "a/b", "ü", "1", 1, "", "_adapter", "x" * 65, "a b")
        ),
        ({"tallrec": None}, r"finetuning\.variants names nothing"),
    ],
)
@pytest.mark.parametrize("create_pipeline", [finetuning.create_pipeline, scoring.create_pipeline])
def test_a_wrong_name_is_refused_before_there_is_a_pipeline(variants, message, create_pipeline):
    remember(variants)
    with pytest.raises(ValueError, match=message):
        create_pipeline()


def test_a_step_that_works_with_a_variant_that_is_not_there_is_refused_by_name():
    remember_parameters(
        {
            "history": {"short": HISTORIES},
            "finetuning": {"variants": {"tallrec": {"history": "recent"}}},
            "export": {"variant": "reclora"},
        }
    )
    with pytest.raises(
        ValueError, match=r"export\.variant is 'reclora', but finetuning\.variants names tallrec: choose"
    ):
        variant_of("export")


def test_a_base_llm_is_distilled_by_a_variant_that_is_named():
    for steps, variant in ((["prune"], None), (["prune", "distill"], "tallrec")):
        remember({"tallrec": {"history": "recent"}}, base_model={"steps": steps, "variant": variant})
        pipeline = base_model.create_pipeline()
        assert ("tallrec.adapter" in pipeline.inputs()) == ("distill" in steps)
        assert ("learning.recent.prompts" if variant else "learning.retrieved.prompts") in pipeline.datasets()
    remember({"tallrec": {"history": "recent"}}, base_model={"steps": ["distill"], "variant": None})
    with pytest.raises(
        ValueError, match=r"base_model\.variant is None, but finetuning\.variants names tallrec: choose"
    ):
        base_model.create_pipeline()


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        (["tallrec", "lora"], r"merging\.variants names 'lora', but finetuning\.variants names tallrec, rella: choose"),
        (
            ["tallrec", "tallrec"],
            r"merging\.variants is tallrec, tallrec: name each once, and not merged, which it makes",
        ),
        (["tallrec", "rella"], r"different histories, recent, retrieved: merge variants of one history"),
    ],
)
def test_variants_that_cannot_be_merged_are_refused_by_name(variants, message):
    trained = {"tallrec": {"history": "recent"}, "rella": {"history": "retrieved"}}
    remember(trained, merging={"variants": variants})
    with pytest.raises(ValueError, match=message):
        merging_history()
    remember(trained, merging={"variants": None}, export={"variant": "rella"})
    assert (merged_variants(), merging_history()) == ((), "retrieved")


@pytest.mark.parametrize(("variant", "expected"), [(None, None), ("tallrec", "tallrec")])
def test_a_step_may_do_without_a_variant(variant, expected):
    remember_parameters(
        {
            "history": {"short": HISTORIES},
            "finetuning": {"variants": {"tallrec": {"history": "recent"}}},
            "ranking": {"variant": variant},
        }
    )
    assert optional_variant_of("ranking") == expected


@pytest.mark.parametrize("name", ["near.by", "evaluation", "prompts"])
def test_a_history_has_a_name_by_the_same_rule(name):
    remember({"tallrec": {"history": "recent"}}, HISTORIES | {name: HISTORIES["recent"]})
    with pytest.raises(ValueError, match=rf"history\.short names '{name}'\. A name begins with a letter"):
        history_names()
