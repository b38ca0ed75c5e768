"""Counting the likes that a prompt shows."""

from named import names_with
from reclora_kedro.pipelines import scoring


def test_likes_are_counted_in_the_prompts_that_the_untrained_llm_reads():
    names = names_with()
    pipeline, read = scoring.create_pipeline(names), f"test.{names.short_histories[0]}.prompts"
    [baseline] = pipeline.only_nodes("scoring.score_prompt_likes").nodes
    [untrained] = pipeline.only_nodes("scoring.score_untrained").nodes
    assert baseline.inputs == [read]
    assert read in untrained.inputs
