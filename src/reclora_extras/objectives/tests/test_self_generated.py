"""An adapter that goes on learning from pairs that it labels itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from few_rows import adapter_weights, gates_decide, load_model, training_config, with_new_adapter
from reclora_extras.objectives.preferences import Pairs
from reclora_extras.objectives.self_generated import SelfGenerated, fine_tune_in_rounds, self_labels
from reclora_extras.privacy.dp_lora import PrivacyConfig
from reclora_kedro.distributed.checkpoints import CheckpointStore
from reclora_kedro.finetuning.processes import fine_tune
from reclora_kedro.finetuning.variants import VariantConfig
from reclora_kedro.histories.questions import PromptRowsConfig

MARGINS = st.floats(-9, 9)


@given(st.lists(st.tuples(MARGINS, MARGINS, MARGINS), min_size=1, max_size=30), st.floats(0, 2))
def test_labels_are_the_signs_of_extrapolated_rewards_and_the_least_certain_tenth_is_smoothed(margins, extrapolation):
    labels = self_labels(*np.array(margins).T, extrapolation)
    rewards = [now + extrapolation * (now - before) - untrained for now, before, untrained in margins]
    smoothed = np.isin(labels, [0.1, 0.9])
    assert smoothed.sum() == round(len(margins) / 10)
    certain = [abs(reward) for reward, soft in zip(rewards, smoothed, strict=True) if not soft]
    for label, reward, soft in zip(labels, rewards, smoothed, strict=True):
        if abs(reward) > 1e-9:
            assert (label > 0.5) == (reward > 0)
        assert not soft or abs(reward) <= min(certain, default=9e9) + 1e-9


def rounds(folder, later, store=None, fine_tune=fine_tune):
    """Weights, log and model after eight labelled pairs and two rounds of six pairs of the adapter's own."""
    labelled, unlabelled, validation = gates_decide(16), gates_decide(24, seed=4), gates_decide(48, seed=1)
    model = with_new_adapter(load_model(folder), labelled, gate_dropout=0.0)
    order = np.argsort(-labelled.labels, kind="stable").reshape(2, -1).T.ravel()
    pairs = Pairs(labelled.take(order), labels=np.ones(8), references=np.zeros(8))
    config = training_config(epochs=2, batch_size=8, rows_per_validation=8, rows_per_checkpoint=8)

    def train(examples, store):
        return fine_tune(model, examples, validation, config, store)

    unlabelled = replace(unlabelled, labels=later)
    log = fine_tune_in_rounds(train, model, pairs, unlabelled, SelfGenerated(rounds=2), 400, store)
    return adapter_weights(model.model), log, roc_auc_score(validation.labels, model.scores(validation, 400, ""))


def test_rounds_follow_the_labelled_pairs_and_the_best_weights_stay(tiny_llm_folder):
    later = np.array([1, 0, np.nan, 1, np.nan, np.nan] * 4)
    weights, log, auc = rounds(tiny_llm_folder, later)
    assert log["rows"].is_sorted()
    assert log["rows"][-1] == 2 * (16 + 12 + 12)
    assert log["round"].unique().to_list() == [0, 1, 2]
    assert log.filter(round=0)["confirmed"].null_count() == log.filter(round=0).height
    assert log.filter(round=1)["decided"].unique().to_list() == [4]
    assert log["confirmed"].drop_nulls().is_between(0, 1).all()
    assert auc == pytest.approx(log["validation_auc"].max(), abs=1e-9)
    nothing, other, _ = rounds(tiny_llm_folder, np.full(24, np.nan))  # what the log says later teaches nothing
    assert all(torch.equal(weights[name], tensor) for name, tensor in nothing.items())
    assert other["confirmed"].null_count() == other.height


def test_rounds_go_on_from_their_checkpoints(tiny_llm_folder, tmp_path):
    later, trained = np.full(24, np.nan), []
    expected, *_ = rounds(tiny_llm_folder, later)

    def ends_in_the_second_round(*arguments):
        trained.append(1)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return fine_tune(*arguments)

    with pytest.raises(KeyboardInterrupt):
        rounds(tiny_llm_folder, later, CheckpointStore(tmp_path, "rounds"), ends_in_the_second_round)
    assert {path.name for path in tmp_path.iterdir()} == {"round-0", "round-1"}
    weights, *_ = rounds(tiny_llm_folder, later, CheckpointStore(tmp_path, "rounds"))
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())


def test_fewer_pairs_than_rounds_are_refused():
    few = PromptRowsConfig(unit="rows", few_shot=9, validation=9, test=9, unlabelled=1)
    training_config().objective.require_questions(few)
    with pytest.raises(ValueError, match=r"in 2 rounds, but there are 1 unlabelled pairs: raise history\.prompt_rows"):
        SelfGenerated().require_questions(few)


def test_rounds_are_not_private():
    training = training_config(objective={"kind": "self_generated"}, privacy=PrivacyConfig(kind="dp_lora"))
    variant = {"history": "recent", "gate_input": "target", "adapter": {"gate_norm": "layer"}}
    with pytest.raises(ValueError, match=r"train the adapter further, but training\.privacy accounts for one training"):
        VariantConfig(**variant, training=training)
