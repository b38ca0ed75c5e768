"""Names that parameters give to catalog entries, and the pipelines that are built by them."""

import pytest

from named import names_with
from reclora_kedro.pipeline_registry import DEFAULT_STEPS, create_pipelines, default_flow
from reclora_kedro.pipelines import finetuning, scoring

HISTORIES = {"retrieved": {"kind": "retrieved", "k": 5}, "recent": {"kind": "recent", "k": 5}}


def names_of(variants, short=HISTORIES, **others):
    named = {"history.short": short, "finetuning.variants": variants, "prompt.template": "answers"}
    return names_with(named | {path.replace("__", "."): value for path, value in others.items()})


def inputs_of(pipeline):
    return {node.namespace: set(node.inputs) for node in pipeline.nodes if node.namespace}


def test_each_variant_reads_the_prompts_of_its_own_history():
    names = names_of({"tallrec": {"history": "recent"}, "rella": {"history": "retrieved"}})
    for questions, step in (("learning", finetuning), ("test", scoring)):
        pipeline = step.create_pipeline(names)
        inputs = inputs_of(pipeline)
        assert {"answers.prompt_template"} < inputs[questions]
        assert f"{questions}.recent.prompts" in inputs["tallrec"]
        assert f"{questions}.retrieved.prompts" in inputs["rella"]
        assert {f"{questions}.recent.prompts", f"{questions}.retrieved.prompts"} < pipeline.all_outputs()


@pytest.mark.parametrize("sources", [("popularity", "linear"), ("popularity", "retriever")])
def test_the_default_flow_recommends_and_trains_a_retriever_only_where_it_is_named(sources):
    names = names_with({"recommendation.sources": sources})
    flow = default_flow(create_pipelines([*DEFAULT_STEPS, "candidates", "encoders"], names), names)
    is_named = "retriever" in sources
    assert {"recommendations", "evaluation_report"} <= flow.all_outputs()
    [report] = [node for node in flow.nodes if node.outputs == ["evaluation_report"]]
    assert "candidate_choice" in report.inputs
    assert ("retriever" in flow.all_outputs()) == ("retriever" in flow.datasets()) == is_named
    for step in ("recommendation", "ranking"):
        [alone] = create_pipelines([step], names).values()
        assert ("retriever" in alone.inputs()) == is_named


def test_only_the_sources_that_are_named_are_read_with_their_blocks_of_settings():
    assert names_with({"recommendation.sources": ["linear", "own_items"]}).source_settings == {
        "linear": "params:linear"
    }


@pytest.mark.parametrize("method", ["validation", "ranker", "item_knn"])
def test_a_second_stage_is_a_baseline_of_the_ranking_only_where_one_is_learned(method):
    names = names_with({"recommendation.method": method, "ranking.baseline": "fusion"})
    if method == "item_knn":
        with pytest.raises(ValueError, match=r"ranking\.baseline is 'fusion': .* linear_lens, lens\. Name"):
            names.require_ranking_baseline()
    else:
        names.require_ranking_baseline()


def test_a_source_without_a_module_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"recommendation\.sources: .*item_kn.* item_knn"):
        names_with({"recommendation.sources": ["item_kn"]})


def test_the_untrained_llm_sees_the_first_history():
    names = names_of({"tallrec": {"history": "recent"}})
    [untrained] = [node for node in scoring.create_pipeline(names).nodes if node.name == "scoring.score_untrained"]
    assert "test.retrieved.prompts" in untrained.inputs


def test_null_drops_a_name_of_conf_base():
    names = names_of({"shared_lora": None, "tallrec": {"history": "recent"}}, HISTORIES | {"retrieved": None})
    assert names.variants == {"tallrec": "recent"}
    assert names.short_histories == ("recent",)


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        (
            {"tallrec": {"history": "latest"}},
            r"variants\.tallrec\.history is 'latest': .* names retrieved, recent\.",
        ),
        ({"tallrec": {}}, r"variants\.tallrec\.history is null"),
        ({"recent": {"history": "recent"}}, r"names 'recent', which is also the name of a history"),
        ({"lens": {"history": "recent"}}, r"finetuning\.variants names 'lens': a name .* other than backtest"),
        (
            {"bootstrap": {"history": "recent"}},
            r"finetuning\.variants names 'bootstrap': a name .* other than backtest",
        ),
        ({"log": {"history": "recent"}}, r"finetuning\.variants names 'log': a name .* other than backtest"),
        *(
            (
                {name: {"history": "recent"}},
                r"finetuning\.variants names .*: a name begins with a letter and has at most",
            )
            for name in ("my.lora", "../lora", "a/b", "ü", "1", 1, "", "_adapter", "x" * 65, "a b")
        ),
        ({"tallrec": None}, r"finetuning\.variants names nothing"),
    ],
)
def test_a_wrong_name_is_refused_before_there_is_a_pipeline(variants, message):
    with pytest.raises(ValueError, match=message):
        names_of(variants)


def test_a_step_that_works_with_a_variant_that_is_not_there_is_refused_by_name():
    names = names_of({"tallrec": {"history": "recent"}}, export__variant="reclora")
    with pytest.raises(
        ValueError, match=r"export\.variant is 'reclora': `finetuning\.variants` names tallrec\. Choose"
    ):
        names.variant_of("export")


@pytest.mark.parametrize(("variant", "expected"), [(None, None), ("tallrec", "tallrec")])
def test_a_step_may_do_without_a_variant(variant, expected):
    names = names_of({"tallrec": {"history": "recent"}}, ranking__variant=variant)
    assert names.optional_variant_of("ranking") == expected


@pytest.mark.parametrize("name", ["near.by", "evaluation", "prompts"])
def test_a_history_has_a_name_by_the_same_rule(name):
    with pytest.raises(ValueError, match=rf"history\.short names '{name}': a name begins with a letter"):
        names_of({"tallrec": {"history": "recent"}}, HISTORIES | {name: HISTORIES["recent"]})
