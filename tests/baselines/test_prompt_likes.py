"""Counting the likes that a prompt shows."""

from reclora_kedro.pipelines import names, scoring
from reclora_kedro.pipelines.names import history_names


def test_likes_are_counted_in_the_prompts_that_the_untrained_llm_reads(monkeypatch):
    monkeypatch.setattr(names, "_of_the_session", None)
    pipeline, read = scoring.create_pipeline(), f"test.{history_names()[0]}.prompts"
    [baseline] = pipeline.only_nodes("scoring.score_prompt_likes").nodes
    [untrained] = pipeline.only_nodes("scoring.score_untrained").nodes
    assert baseline.inputs == [read]
    assert read in untrained.inputs
