"""The encoders step beside the history step."""

import pytest
from kedro.pipeline import Pipeline

from named import names_with
from projects import copy_project, kedro_run
from reclora_kedro.evaluation.report import encoder_table
from reclora_kedro.pipelines import encoders, history
from reclora_kedro.terminal import show


@pytest.mark.parametrize("base", ["sentence_encoder", "base_llm"])
def test_an_encoder_is_tuned_after_the_log_and_before_items_are_embedded(base):
    names = names_with({"history.item_embedding.encoders": ["tfidf", "tuned_item_encoder"], "item_encoder.base": base})
    whole = Pipeline([*history.create_pipeline(names).nodes, *encoders.create_pipeline(names).nodes])
    order = [node.name for node in whole.nodes]
    steps = ["history.build_log", "history.encoders.tune_item_encoder", "history.embed_items"]
    assert sorted(steps, key=order.index) == steps
    [tuning] = whole.only_nodes("history.encoders.tune_item_encoder").nodes
    assert tuning.inputs == ["log_without_embeddings", base, "params:item_encoder", "params:history"]


def test_the_default_flow_tunes_an_encoder_that_the_history_step_names(tmp_path, recwarn, capsys):
    named = {"history": {"item_embedding": {"encoders": ["tfidf", "tuned_item_encoder"]}}}
    project = copy_project(tmp_path)
    catalog = kedro_run(project, named, to_outputs=["item_embeddings", "encoder_curve"])
    log = catalog.load("encoder_training_log")
    assert [(record["step"], record["pairs"]) for record in log] == [(0, 0), (2, 128), (4, 256)]
    assert catalog.load("item_embeddings")["embeddings"].shape[1] == 16
    assert catalog.load("encoder_curve").data[1].y == tuple(record["validation_loss"] for record in log)
    assert len(catalog.load("tuned_item_encoder").model.layers) == 1
    assert not [warning for warning in recwarn if "Namespace" in str(warning.message)]
    show(encoder_table(log))
    assert "256" in capsys.readouterr().out.splitlines()[-2]
