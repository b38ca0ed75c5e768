"""States of users as they are now."""

import numpy as np
import polars as pl
import pytest
import torch

from reclora_kedro.lens.training import fit_lens, rows_of
from reclora_kedro.lens.users import choose_users, user_states


@pytest.mark.parametrize("model", ["sim", "gru4rec"])
def test_a_users_state_is_that_of_a_row_after_its_last_event(data, config, model):
    lens, _ = fit_lens(
        data.samples,
        data.sequences,
        data.item_embeddings,
        data.items,
        data.users,
        config.model_copy(update={"model": model}),
    )
    index = np.array([4, 0])
    states = user_states(lens, data.sequences, data.item_embeddings, index)
    assert states.shape == (2, lens.state_dim("user"))
    for item in (1, 5):  # whatever the target
        rows = pl.DataFrame(
            {"user_index": index, "item_index": [item, item], "history_end": data.sequences.offsets[index + 1]},
            schema_overrides={"user_index": pl.Int32, "item_index": pl.Int32},
        )
        (_, batch), *_ = rows_of(lens, rows, data.sequences, data.item_embeddings).batches(np.arange(2), 2)
        with torch.no_grad():
            torch.testing.assert_close(states, lens.states(batch, "user"))


def test_an_unknown_user_is_refused_by_name(data):
    known = data.users["user_id"][0]
    with pytest.raises(ValueError, match=r"export.users names 'nobody', -5, which the users table lacks"):
        choose_users(data.users, data.sequences, (known, "nobody", -5), None)


def test_a_user_named_twice_is_exported_once(data):
    known = data.users["user_id"][3]
    assert choose_users(data.users, data.sequences, (known, str(known)), None).tolist() == [3]


def test_the_most_active_users_come_first(data):
    index = choose_users(data.users, data.sequences, None, 5)
    events = np.diff(data.sequences.offsets)
    assert events[index].tolist() == sorted(events, reverse=True)[:5]
    assert len(choose_users(data.users, data.sequences, None, 10**6)) == data.users.height
