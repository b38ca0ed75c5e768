import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reclora_kedro.llm.batching import TokenBudget, batches_by_length, pad_right, shuffled_batches

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


@given(lengths, st.integers(1, 2000), st.integers(300, 2000))
def test_rows_that_exceed_the_memory_are_done_in_smaller_batches(lengths, tokens, memory):
    lengths, budget, done = np.array(lengths), TokenBudget(tokens), []

    def work(rows):
        if len(rows) * lengths[rows].max() > memory:
            raise torch.OutOfMemoryError
        done.extend(rows)
        return lengths[rows].sum()

    results = [(rows, result) for rows, result in budget.run(np.arange(len(lengths)), lengths, work)]
    assert sorted(done) == list(range(len(lengths)))
    assert sum(result for _, result in results) == lengths.sum()
    assert budget.tokens == tokens or budget.tokens <= tokens / 2


def test_a_halved_budget_stays_and_is_said(caplog):
    lengths, budget, sizes = np.full(8, 10), TokenBudget(80), []

    def work(rows):
        sizes.append(len(rows))
        if len(rows) > 2:
            raise torch.OutOfMemoryError

    for _ in range(2):
        assert sum(len(rows) for rows, _ in budget.run(np.arange(8), lengths, work)) == 8
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert "A batch of 4 prompts exceeded the GPU's memory; from now on, at most 20 tokens per batch." in caplog.text


def test_a_single_row_that_exceeds_the_memory_is_an_error():
    def work(rows):
        raise torch.OutOfMemoryError

    with pytest.raises(MemoryError, match=r"A single prompt of 7 tokens .*gradient_checkpointing.*prompt\.max_tokens"):
        list(TokenBudget(100).run(np.arange(3), np.array([7, 3, 2]), work))
