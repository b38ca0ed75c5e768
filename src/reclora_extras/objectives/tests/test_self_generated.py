"""An adapter that goes on learning from its own responses, which it labels itself."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from few_rows import adapter_weights, gates_decide, load_model, training_config, with_adapter, with_new_adapter
from reclora_extras.objectives import self_generated
from reclora_extras.objectives.self_generated import (
    SelfGenerated,
    TitlePairs,
    decided_pairs,
    fine_tune_in_rounds,
    preferred_first,
    score_titles,
    with_titles,
)
from reclora_extras.objectives.unlabelled import CANDIDATES
from reclora_kedro.distributed.checkpoints import CheckpointStore
from reclora_kedro.finetuning.config import PrivacyConfig
from reclora_kedro.finetuning.examples import AdapterTask
from reclora_kedro.finetuning.training import fine_tune
from reclora_kedro.history.questions import PromptRowsConfig

LATER = [1, 0, np.nan, np.nan]


def candidates_of(moments, later=None, per_moment=CANDIDATES, gate_dim=6):
    """Titles of one to four tokens behind a history for each moment."""
    prompts, random = gates_decide(moments * per_moment, gate_dim), np.random.default_rng(0)
    token_ids = []
    for _ in range(moments):
        history = random.integers(3, 300, random.integers(2, 9)).tolist()
        titles = random.permutation(np.arange(3, 300))[: 4 * per_moment].reshape(per_moment, 4)
        token_ids += [history + title[: random.integers(1, 5)].tolist() for title in titles]
    labels = np.full(len(token_ids), np.nan) if later is None else np.array(later * moments, dtype=float)
    return with_titles(replace(prompts, token_ids=token_ids, labels=labels), per_moment)


def stock_logits(model, titles, place):
    """Logits of the title's tokens by a plain forward pass of its prompt alone, and these tokens."""
    ids, start = titles.prompts.token_ids[place], titles.starts[place]
    with torch.no_grad(), model.gate_context(titles.prompts.gate_inputs.take([place])):
        logits = model.model(input_ids=torch.tensor([ids])).logits[0]
    return logits[start - 1 : -1].double(), torch.tensor(ids[start:])


def log_likelihood(logits, token_ids):
    return logits.log_softmax(1)[torch.arange(len(token_ids)), token_ids].sum().item()


def test_a_title_is_as_likely_as_its_tokens_are_one_after_the_other(tiny_model):
    model, titles = with_adapter(tiny_model), candidates_of(3, gate_dim=5)
    assert (titles.starts.reshape(3, -1) == titles.starts[::CANDIDATES, None]).all()
    expected = [log_likelihood(*stock_logits(model, titles, place)) for place in range(12)]
    for budget in (20, 1000):
        scores, states = score_titles(model, titles, budget, "")
        np.testing.assert_allclose(scores, expected, rtol=1e-5)
        assert [len(each) for each in states] == (titles.prompts.lengths - titles.starts).tolist()


def test_the_loss_is_dpos_and_a_tenth_is_smoothed_by_what_the_extrapolated_policy_doubts(tiny_model):
    titles, beta, extrapolation = candidates_of(20, per_moment=2, gate_dim=5), 0.3, 0.7
    reference = with_adapter(tiny_model)
    before, states = score_titles(reference, titles, 400, "")
    of_reference = [stock_logits(reference, titles, place)[0] for place in range(40)]
    with torch.no_grad():
        for name, weights in reference.model.named_parameters():
            if "lora_" in name:
                weights.add_(torch.randn_like(weights) * 0.1)
    policy, starts, references = reference, titles.starts, np.subtract(*before.reshape(-1, 2).T)
    settings = {"labels": np.ones(20), "references": references, "beta": beta, "starts": starts}
    labelled = TitlePairs(titles.prompts, **settings)
    own = TitlePairs(titles.prompts, **settings, reference_states=tuple(states), extrapolation=extrapolation)

    margins, confidence = [], []
    for pair in range(20):
        likely, beyond = [], []
        for place in (2 * pair, 2 * pair + 1):
            logits, token_ids = stock_logits(policy, titles, place)
            likely.append(log_likelihood(logits, token_ids))
            mixed = (1 + extrapolation) * logits - extrapolation * of_reference[place]
            beyond.append(log_likelihood(mixed, token_ids))
        margins.append(likely[0] - likely[1] - references[pair])
        confidence.append(1 / (1 + np.exp(-beta * (beyond[0] - beyond[1] - references[pair]))))
    chance = 1 / (1 + np.exp(-beta * np.array(margins)))
    right = np.where(np.isin(np.arange(20), np.argsort(confidence)[:2]), 0.9, 1.0)
    every = np.arange(20)
    for examples, wanted in ((labelled, 1.0), (own, right)):
        batch = examples.batch(every, policy.device)
        expected = -(wanted * np.log(chance) + (1 - wanted) * np.log(1 - chance))
        np.testing.assert_allclose(examples.losses(policy, batch, every).detach(), expected, rtol=1e-3, atol=1e-4)
    of_labels = 1 / (1 + np.exp(-beta * own.confidence(policy, 200)))
    np.testing.assert_allclose(of_labels, confidence, atol=1e-4)


@given(st.integers(1, 5), st.integers(0, 99))
def test_responses_are_drawn_by_their_likelihood_and_the_one_of_greater_reward_stands_first(moments, seed):
    random = np.random.default_rng(seed)
    likelihoods, untrained = random.normal(size=(2, moments * CANDIDATES)) * 3
    likelihoods[::CANDIDATES] += 1e3  # surely a response
    likelihoods[1::CANDIDATES] -= 1e3  # surely none
    places = np.arange(moments * CANDIDATES).reshape(-1, CANDIDATES)
    first, second = preferred_first(places, likelihoods, untrained, random).T
    assert ((first // CANDIDATES == places[:, 0] // CANDIDATES) & (first // CANDIDATES == second // CANDIDATES)).all()
    drawn = np.stack([first, second]) % CANDIDATES
    assert (drawn == 0).any(axis=0).all()
    assert not (drawn == 1).any()
    rewards = likelihoods - untrained
    assert (rewards[first] >= rewards[second]).all()


def rounds(folder, candidates, store=None, fine_tune=fine_tune):
    """Weights and log after the labelled pairs and two rounds of the adapter's own."""
    validation = gates_decide(24, seed=1)
    model = with_new_adapter(load_model(folder), candidates.prompts, gate_dropout=0.0)
    config = training_config(epochs=2, batch_size=8, rows_per_validation=8, rows_per_checkpoint=8)

    def train(examples, store):
        return fine_tune(model, examples, validation, config, store)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SelfGenerated, "seed_share", 0.25)
        log = fine_tune_in_rounds(train, model, candidates, SelfGenerated(rounds=2), 400, store, seed=42)
    return adapter_weights(model.model), log


def test_rounds_follow_the_labelled_pairs_and_later_labels_of_others_teach_nothing(tiny_llm_folder):
    candidates, extrapolations = candidates_of(16, LATER), []

    def noting(model, examples, *rest):
        extrapolations.append(examples.extrapolation)
        return fine_tune(model, examples, *rest)

    weights, log = rounds(tiny_llm_folder, candidates, fine_tune=noting)
    assert extrapolations == [0, 0.5, 0.25]
    assert log["rows"].is_sorted()
    assert log["rows"][-1] == 2 * 2 * 16  # epochs and titles of pairs
    assert log["round"].unique().to_list() == [0, 1, 2]
    measures = log.select("decided", "confirmed", "wrong_doubted", "right_doubted")
    assert measures.filter(log["round"] == 0)["confirmed"].null_count() == log.filter(round=0).height
    assert log["decided"].is_sorted()
    assert 0 < log["decided"][-1] <= 12
    assert measures[-1].select("confirmed").item() is not None
    seeds = decided_pairs(candidates.prompts.labels.reshape(-1, CANDIDATES), 4, np.random.default_rng(42))
    labels = candidates.prompts.labels.copy().reshape(-1, CANDIDATES)
    hidden = np.setdiff1d(np.arange(16), seeds[:, 0] // CANDIDATES)
    labels[hidden] = labels[hidden, ::-1]
    other, told = rounds(
        tiny_llm_folder, replace(candidates, prompts=replace(candidates.prompts, labels=labels.ravel()))
    )
    assert all(torch.equal(weights[name], tensor) for name, tensor in other.items())
    assert told["confirmed"].to_list() != log["confirmed"].to_list()


def test_moments_whose_histories_are_cut_differently_are_left_out(monkeypatch, caplog):
    prompts = pl.DataFrame(
        {
            "row": range(3 * CANDIDATES),
            "use": "unlabelled",
            "label": None,
            "token_ids": [[3, 4, row] for row in range(3 * CANDIDATES)],
            "dropped_history": [1, 1, 1, 1, 0, 0, 2, 0, 0, 0, 0, 0],
        }
    )
    rows = torch.arange(3 * CANDIDATES)
    states = {"row": rows, "target": torch.zeros(len(rows), 2), "logit": torch.zeros(len(rows))}
    monkeypatch.setattr(self_generated, "fine_tune_in_rounds", lambda _, model, candidates, *rest, **seed: candidates)
    training = AdapterTask(None, None, gates_decide(2), prompts, 400, None, 42, (prompts, states))
    with monkeypatch.context() as patch:
        patch.setattr(SelfGenerated, "seed_share", 0.5)
        candidates = SelfGenerated(rounds=1).fine_tune(training)
    assert candidates.prompts.rows.tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert candidates.starts.tolist() == [2] * 8
    assert "1 of 3 unlabelled moments are left out: prompt.max_tokens" in caplog.text
    with pytest.raises(ValueError, match="of 2 pairs, only 0 have labels"):
        SelfGenerated().fine_tune(training)


def test_rounds_go_on_from_their_checkpoints(tiny_llm_folder, tmp_path):
    candidates, trained = candidates_of(16, LATER), []
    expected, _ = rounds(tiny_llm_folder, candidates)

    def ends_in_the_second_round(*arguments):
        trained.append(1)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return fine_tune(*arguments)

    with pytest.raises(KeyboardInterrupt):
        rounds(tiny_llm_folder, candidates, CheckpointStore(tmp_path, "rounds"), ends_in_the_second_round)
    assert {path.name for path in tmp_path.iterdir()} == {"round-0", "round-1"}
    weights, _ = rounds(tiny_llm_folder, candidates, CheckpointStore(tmp_path, "rounds"))
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())


def test_too_few_pairs_are_refused():
    few = PromptRowsConfig(unit="rows", few_shot=9, validation=9, test=9, unlabelled=1)
    training_config().objective.require_questions(few)
    with pytest.raises(ValueError, match=r"of 1 pairs, only 0 have labels: raise history\.prompt_rows"):
        SelfGenerated().require_questions(few)
    SelfGenerated().require_questions(few.model_copy(update={"unlabelled": 20}))
    with pytest.raises(ValueError, match=r"labels of 2 of 2 pairs, but of 1 alone the training split shows which"):
        decided_pairs(np.array([LATER, [np.nan] * 4]), 2, np.random.default_rng(0))


def test_rounds_are_not_private():
    with pytest.raises(ValueError, match=r"rounds train the adapter further, but privacy accounts for one training"):
        training_config(objective={"kind": "self_generated"}, privacy=PrivacyConfig(kind="user_level_dp"))
