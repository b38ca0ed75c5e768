"""What a frozen lens says of samples, and of users as they are now."""

import copy
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from reclora_kedro.history.questions import MOMENT
from reclora_kedro.history.retrieval import WindowConfig
from reclora_kedro.lens import features
from reclora_kedro.lens.base import build_lens
from reclora_kedro.lens.features import LensLoader
from reclora_kedro.lens.states import LensReader, gate_inputs, lens_scores, lens_states, user_states


def test_states_and_scores_follow_the_order_of_the_rows(fitted, log) -> None:
    lens, _ = fitted
    rows = np.array([40, 3, 77])
    states = lens_states(lens, log, log.samples[rows])
    scores = lens_scores(states)
    assert states["row"].dtype == torch.int64
    assert states["row"].tolist() == rows.tolist()
    assert scores.dtype == np.float64
    assert states.keys() == {"row", "logit", *lens.state_dims}
    for kind in lens.state_dims:
        assert states[kind].dtype == torch.float32
        assert states[kind].shape == (3, lens.state_dims[kind])
    for place, row in enumerate(rows):
        [alone] = lens_scores(lens_states(lens, log, log.samples[[row]]))
        assert alone == pytest.approx(scores[place], abs=1e-6)


def test_states_are_those_that_the_lens_computes_its_logits_from(fitted, log) -> None:
    lens, _ = fitted
    rows = np.array([7, 8, 300])
    states = lens_states(lens, log, log.samples[rows])
    [(_, batch)] = LensLoader(log, lens).batches(log.samples[rows], 3)
    with torch.no_grad():
        assert torch.equal(states["logit"], lens(batch))
        for kind in lens.state_dims:
            assert torch.equal(states[kind], lens.states(batch, kind))


def test_logits_alone_are_those_beside_the_states(fitted, log) -> None:
    lens, _ = fitted
    for rows in (np.array([7, 8, 300]), np.arange(0)):
        assert torch.equal(
            LensReader(lens, log).logits(log.samples[rows]), lens_states(lens, log, log.samples[rows])["logit"]
        )


def test_statistics_of_a_log_are_made_when_they_are_read_or_handed_over(fitted, log, monkeypatch) -> None:
    lens, _ = fitted
    made, statistics_of = [], features.statistics_of
    monkeypatch.setattr(
        features, "statistics_of", lambda lens: lambda log: made.append(log) or statistics_of(lens)(log)
    )
    reader, rows = LensReader(lens, log), log.samples[np.array([7, 8, 300])]
    assert made == []
    later = reader.with_log(log)
    expected = reader.logits(rows)
    assert torch.equal(reader.with_log(log).logits(rows), expected)  # which shares them
    assert made == [log]
    assert torch.equal(later.logits(rows), expected)
    assert made == [log, log]
    del vars(reader._loader)["rating_statistics"]
    reader.__getstate__()  # once, where it is, and not by everyone who gets it
    assert made == [log, log, log]


@pytest.mark.parametrize(
    ("kind", "k", "windows"),
    [("recent", 6, 4), ("retrieved", 6, 4), ("retrieved", 3, 2), ("retrieved", 30, 4)],
    ids=["recent", "masked in a shared past", "in a past that is too long to share", "all of the past"],
)
def test_a_catalogue_at_one_moment_has_the_logits_of_its_rows(fitted, log, monkeypatch, kind, k, windows) -> None:
    monkeypatch.setattr(features, "LEAST_SHARED", 10)
    monkeypatch.setattr(features, "SHARED_WINDOWS", windows)
    lens = copy.deepcopy(fitted[0])
    lens.config = lens.config.model_copy(update={"long_history": WindowConfig(kind=kind, k=k)})
    items = log.items.height
    catalogue = pl.DataFrame({"item_index": np.random.default_rng(0).permutation(items).astype(np.int32)})
    moments = log.samples.filter(pl.col("row").is_in([100, 300, 440])).select(*MOMENT)
    pairs = pl.concat([log.samples[:3].select("item_index", *MOMENT), catalogue.join(moments, how="cross")])
    pairs = pairs.sort(*MOMENT, maintain_order=True).with_row_index("row")
    batches = [batch for _, batch in LensLoader(log, lens).batches_by_moment(pairs, 25)]
    assert sorted(len(batch.item) for batch in batches if len(batch.user) == 1) == [15, 15, 15, 25, 25, 25]
    expected = lens_states(lens, log, pairs)["logit"]
    torch.testing.assert_close(LensReader(lens, log).logits(pairs), expected, rtol=1e-5, atol=1e-5)


def test_scores_are_probabilities_in_double_precision() -> None:
    logits = torch.tensor([0.0, 40.0, -3.5])
    expected = 1 / (1 + np.exp(-logits.double().numpy()))
    np.testing.assert_allclose(lens_scores({"logit": logits}), expected, rtol=1e-15)


def test_no_rows_have_states_of_the_same_form(fitted, log) -> None:
    lens, _ = fitted
    some, none = (lens_states(lens, log, log.samples[:count]) for count in (1, 0))
    assert {name: (0, *state.shape[1:]) for name, state in some.items()} == {
        name: tuple(state.shape) for name, state in none.items()
    }
    assert {name: state.dtype for name, state in some.items()} == {name: state.dtype for name, state in none.items()}
    assert lens_scores(none).shape == (0,)


def test_a_users_state_is_that_of_a_row_after_its_last_event(fitted, log) -> None:
    lens, _ = fitted
    users = np.array([4, 0])
    states = user_states(lens, log, users)
    assert states.shape == (2, lens.state_dims["user"])
    for item in (1, 5):  # whatever the target
        now = log.now(pl.DataFrame({"user_index": users, "item_index": [item, item]}))
        torch.testing.assert_close(states, lens_states(lens, log, now.with_row_index("row"))["user"])


def test_a_users_state_retrieves_no_history(fitted, log) -> None:
    lens, _ = fitted
    window = WindowConfig(kind="retrieved", k=3)
    retrieves = build_lens(lens.config.model_copy(update={"long_history": window}), lens.sizes)
    retrieves.load_state_dict(lens.state_dict())
    users, bare = np.array([4, 0]), replace(log, item_embeddings=None)
    assert torch.equal(user_states(retrieves.freeze(), bare, users), user_states(lens, log, users))


def test_workers_say_the_same_of_their_shards(fitted, log, workers_here):
    (lens, _), samples = fitted, log.samples[:50]
    spread = lens_states(lens, log, samples, workers_here(7))
    for kind, state in lens_states(lens, log, samples).items():
        torch.testing.assert_close(spread[kind], state, rtol=0, atol=1e-5)


@pytest.fixture
def states():
    rows = torch.tensor([5, 3, 8])
    kinds = {kind: rows[:, None] * torch.ones(width) for kind, width in (("target", 4), ("user", 2), ("fields", 6))}
    return {"row": rows, "logit": rows / 10, **kinds}


@pytest.mark.parametrize("name", ["target", "user", "fields"])
def test_gates_read_a_state_of_the_lens(states, name):
    read = gate_inputs(states, name)
    assert (read.name, read.width) == (name, states[name].shape[1])
    assert torch.equal(read.values, states[name])
    assert torch.equal(read.lens_logits, states["logit"])
    assert torch.equal(read.rows, states["row"])


@pytest.mark.parametrize("name", ["user", "rating_statistics"])
def test_what_there_is_not_is_refused_with_what_there_is(states, name):
    del states["user"]
    with pytest.raises(ValueError, match=f"gate_input is '{name}', but the lens has the states fields, target: change"):
        gate_inputs(states, name)


def test_questions_of_one_moment_have_one_state_of_the_user_to_the_last_bit(fitted, log, monkeypatch) -> None:
    (lens, _), states_of = fitted, LensReader.states

    def differ_in_the_last_bits(reader, samples):
        states = states_of(reader, samples)
        return states | {"user": states["user"] + 1e-6 * torch.rand(len(states["user"]), 1)}

    monkeypatch.setattr(LensReader, "states", differ_in_the_last_bits)
    user, item = np.divmod(np.random.default_rng(0).permutation(30), 10)
    pairs = pl.DataFrame({"row": np.arange(30), "user_index": user, "item_index": item})
    states = lens_states(lens, log, log.now(pairs))["user"]
    for index in range(3):
        of_user = states[user == index]
        assert torch.equal(of_user, of_user[:1].expand_as(of_user))
    assert len(states.unique(dim=0)) == 3
