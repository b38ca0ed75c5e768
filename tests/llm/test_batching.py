import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from reclora_kedro.llm.batching import batches_by_length, pad_right, shuffled_batches

lengths = st.lists(st.integers(1, 300), min_size=1, max_size=200)


@given(lengths, st.integers(1, 2000))
def test_batches_hold_every_row_once_within_the_budget(lengths, budget):
    batches = batches_by_length(lengths, budget)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[row] for row in batch)
        assert len(batch) == 1 or longest * len(batch) <= budget


@given(lengths, st.integers(1, 32), st.integers(0, 5))
def test_an_epoch_holds_every_row_once_and_follows_its_seed(lengths, rows, seed):
    lengths = np.array(lengths)
    first, second = (shuffled_batches(lengths, rows, np.random.default_rng(seed)) for _ in range(2))
    assert sorted(np.concatenate(first)) == list(range(len(lengths)))
    assert all(len(batch) <= rows for batch in first)
    assert len(first) == -(-len(lengths) // rows)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_padding_is_on_the_right():
    ids, last = pad_right([[1, 2], [3, 4, 5], [6]])
    assert ids.tolist() == [[1, 2, 0], [3, 4, 5], [6, 0, 0]]
    assert ids[torch.arange(3), last].tolist() == [2, 5, 6]
