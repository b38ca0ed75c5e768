"""An adapter that goes on learning from pairs that it labels itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from few_rows import adapter_weights, gates_decide, load_model, training_config, with_new_adapter
from reclora_kedro.distributed.checkpoints import CheckpointStore
from reclora_kedro.finetuning import self_labelling
from reclora_kedro.finetuning.objectives import Examples, ObjectiveConfig
from reclora_kedro.finetuning.privacy import PrivacyConfig
from reclora_kedro.finetuning.self_labelling import fine_tune_in_rounds, require_unlabelled, self_labels

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


def rounds(folder, later, store=None):
    """Weights, log and model after eight labelled pairs and two rounds of six pairs of the adapter's own."""
    labelled, unlabelled, validation = gates_decide(16), gates_decide(24, seed=4), gates_decide(48, seed=1)
    model = with_new_adapter(load_model(folder), labelled, gate_dropout=0.0)
    order = np.argsort(-labelled.labels, kind="stable").reshape(2, -1).T.ravel()
    examples = Examples(labelled.take(order), np.ones(8), np.zeros(8))
    objective = {"kind": "self_generated", "rounds": 2}
    config = training_config(epochs=2, batch_size=8, rows_per_validation=8, rows_per_checkpoint=8, objective=objective)
    log = fine_tune_in_rounds(model, examples, replace(unlabelled, labels=later), validation, config, store)
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


def test_rounds_go_on_from_their_checkpoints(tiny_llm_folder, tmp_path, monkeypatch):
    later, trained = np.full(24, np.nan), []
    expected, *_ = rounds(tiny_llm_folder, later)
    fine_tune = self_labelling.fine_tune

    def ends_in_the_second_round(*arguments):
        trained.append(1)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return fine_tune(*arguments)

    monkeypatch.setattr(self_labelling, "fine_tune", ends_in_the_second_round)
    with pytest.raises(KeyboardInterrupt):
        rounds(tiny_llm_folder, later, CheckpointStore(tmp_path, "rounds"))
    monkeypatch.undo()
    assert {path.name for path in tmp_path.iterdir()} == {"round-0", "round-1"}
    weights, *_ = rounds(tiny_llm_folder, later, CheckpointStore(tmp_path, "rounds"))
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())


def test_fewer_pairs_than_rounds_are_refused():
    require_unlabelled(ObjectiveConfig(), 0)
    with pytest.raises(ValueError, match=r"in 2 rounds, but there are 1 unlabelled pairs: raise history\.prompt_rows"):
        require_unlabelled(ObjectiveConfig(kind="self_generated"), 1)


def test_rounds_are_not_private():
    with pytest.raises(ValueError, match=r"whose rounds would each spend the whole of privacy\.max_epsilon: set it to"):
        training_config(objective={"kind": "self_generated"}, privacy=PrivacyConfig(kind="dp_lora"))
