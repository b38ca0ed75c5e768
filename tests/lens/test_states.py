"""What a frozen lens says of samples, and of users as they are now."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from reclora_kedro.histories.retrieval import WindowConfig
from reclora_kedro.lens.base import build_lens
from reclora_kedro.lens.features import LensLoader
from reclora_kedro.lens.states import LensReader, lens_scores, lens_states, user_states


def test_states_and_scores_follow_the_order_of_the_rows(fitted, log) -> None:
    lens, _ = fitted
    rows = np.array([40, 3, 77])
    states = lens_states(lens, log, rows)
    scores = lens_scores(states)
    assert states["row"].dtype == torch.int64
    assert states["row"].tolist() == rows.tolist()
    assert scores.dtype == np.float64
    assert states.keys() == {"row", "logit", *lens.state_kinds}
    for kind in lens.state_kinds:
        assert states[kind].dtype == torch.float32
        assert states[kind].shape == (3, lens.state_dim(kind))
    for place, row in enumerate(rows):
        [alone] = lens_scores(lens_states(lens, log, np.array([row])))
        assert alone == pytest.approx(scores[place], abs=1e-6)


def test_states_are_those_that_the_lens_computes_its_logits_from(fitted, log) -> None:
    lens, _ = fitted
    rows = np.array([7, 8, 300])
    states = lens_states(lens, log, rows)
    [(_, batch)] = LensLoader(log, lens).batches(log.samples[rows], 3)
    with torch.no_grad():
        assert torch.equal(states["logit"], lens(batch))
        for kind in lens.state_kinds:
            assert torch.equal(states[kind], lens.states(batch, kind))


def test_logits_alone_are_those_beside_the_states(fitted, log) -> None:
    lens, _ = fitted
    for rows in (np.array([7, 8, 300]), np.arange(0)):
        assert torch.equal(LensReader(lens, log).logits(log.samples[rows]), lens_states(lens, log, rows)["logit"])


def test_scores_are_probabilities_in_double_precision() -> None:
    logits = torch.tensor([0.0, 40.0, -3.5])
    expected = 1 / (1 + np.exp(-logits.double().numpy()))
    np.testing.assert_allclose(lens_scores({"logit": logits}), expected, rtol=1e-15)


def test_no_rows_have_states_of_the_same_form(fitted, log) -> None:
    lens, _ = fitted
    some, none = (lens_states(lens, log, np.arange(count)) for count in (1, 0))
    assert {name: (0, *state.shape[1:]) for name, state in some.items()} == {
        name: tuple(state.shape) for name, state in none.items()
    }
    assert {name: state.dtype for name, state in some.items()} == {name: state.dtype for name, state in none.items()}
    assert lens_scores(none).shape == (0,)


def test_a_users_state_is_that_of_a_row_after_its_last_event(fitted, log) -> None:
    lens, _ = fitted
    users = np.array([4, 0])
    states = user_states(lens, log, users)
    assert states.shape == (2, lens.state_dim("user"))
    for item in (1, 5):  # whatever the target
        now = log.now(pl.DataFrame({"user_index": users, "item_index": [item, item]})).samples
        torch.testing.assert_close(states, lens_states(lens, replace(log, samples=now), np.arange(2))["user"])


def test_a_users_state_retrieves_no_history(fitted, log) -> None:
    lens, _ = fitted
    window = WindowConfig(kind="retrieved", k=3)
    retrieves = build_lens(lens.config.model_copy(update={"long_history": window}), lens.sizes)
    retrieves.load_state_dict(lens.state_dict())
    users, bare = np.array([4, 0]), replace(log, item_embeddings=None)
    assert torch.equal(user_states(retrieves.freeze(), bare, users), user_states(lens, log, users))


def test_workers_say_the_same_of_their_shards(fitted, log, workers_here):
    (lens, _), rows = fitted, np.arange(50)
    spread = lens_states(lens, log, rows, workers_here(7))
    for kind, state in lens_states(lens, log, rows).items():
        torch.testing.assert_close(spread[kind], state, rtol=0, atol=1e-5)
