"""What the pipelines of questions read of one another."""

import pytest
from kedro.pipeline import Pipeline

from named import names_with
from reclora_kedro.pipelines import finetuning, history, lens, ranking, recommendation, scoring
from reclora_kedro.pipelines.history.nodes import draw_learning_questions, draw_test_questions

NAMES = names_with(
    {
        "history.short": {"recent": {"kind": "recent", "k": 5}},
        "finetuning.variants": {"reclora": {"history": "recent"}},
        "recommendation.variant": "reclora",
        "recommendation.candidates": "neighbours",
        "ranking.variant": "reclora",
    }
)


def what_makes(entry):
    """Names of the nodes of the flow that an entry depends on."""
    steps = (history, lens, finetuning, scoring)
    flow = sum((step.create_pipeline(NAMES) for step in steps), start=Pipeline([]))
    return {node.name for node in flow.to_outputs(entry).nodes}


def test_test_rows_have_no_part_in_an_adapter():
    assert "history.draw_learning_questions" in what_makes("reclora.adapter")
    assert not [name for name in what_makes("reclora.adapter") if "test" in name]
    assert draw_learning_questions.reads == {
        "history": [
            "prompt_rows.unit",
            "prompt_rows.few_shot",
            "prompt_rows.validation",
            "seed",
        ]
    }


def test_learning_rows_have_no_part_in_what_tests_are_made_of():
    for entry in ("test.recent.prompts", "test_states"):
        assert not [name for name in what_makes(entry) if "learning" in name]
    assert draw_test_questions.reads == {"history": ["prompt_rows.unit", "prompt_rows.test", "seed"]}


def test_a_lens_of_all_rows_does_not_depend_on_those_that_the_llm_sees():
    assert not [name for name in what_makes("lens") if "questions" in name]


@pytest.mark.parametrize("step", [recommendation, ranking])
def test_a_step_asks_its_own_questions_in_its_namespace(step):
    name = step.__name__.rpartition(".")[2]
    pipeline = step.create_pipeline(NAMES)
    assert {node.namespace for node in pipeline.nodes} == {name}
    assert {f"{name}_questions", f"{name}.recent.prompts", f"{name}.gate_inputs", f"{name}_scores"} < (
        pipeline.all_outputs()
    )
    assert {"reclora.adapter", "base_llm", "lens", "log"} < pipeline.inputs()
