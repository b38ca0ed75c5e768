"""Lists by dense and sparse scores, and ranks by the same rule."""

from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from random_logs import logs
from reclora_kedro.candidates import moments as module
from reclora_kedro.candidates.item_model import Training
from reclora_kedro.candidates.moments import NO_ITEM, ItemOrder, Moments, best_items, ranks_of, scores_at


@dataclass
class Asked:
    """Moments with scores of all items, and how many of the best ones are asked for."""

    scores: np.ndarray
    order: list[int]
    hidden: list[list[int]]
    allowed: list[list[int] | None]
    limit: int

    @property
    def moments(self):
        rows = len(self.scores)
        frame = pl.DataFrame(
            {name: np.zeros(rows, dtype=np.int64) for name in ("user_index", "history_end", "timestamp")}
        )
        hidden = [np.array(items, dtype=np.int64) for items in self.hidden]
        allowed = [None if items is None else np.array(items, dtype=np.int64) for items in self.allowed]
        return Moments(frame, None, ItemOrder(np.array(self.order)), hidden, allowed)

    def all_in_order(self, row):
        """All items that a row may get, best first."""
        may = set(self.order if self.allowed[row] is None else self.allowed[row]) - {*self.hidden[row]}
        return sorted(may, key=lambda item: (-self.scores[row, item], self.order.index(item)))


@st.composite
def asked(draw):
    items, rows = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    item = st.integers(0, items - 1)
    return Asked(
        scores=np.array(draw(st.lists(st.integers(-2, 2), min_size=rows * items, max_size=rows * items)), dtype=float)
        .reshape(rows, items),
        order=draw(st.permutations(range(items))),
        hidden=draw(st.lists(st.lists(item), min_size=rows, max_size=rows)),
        allowed=draw(st.lists(st.none() | st.lists(item, unique=True), min_size=rows, max_size=rows)),
        limit=draw(st.integers(1, items + 2)),
    )  # fmt: skip


@given(asked(), st.sampled_from([1, 2, module.PARTS]))
def test_dense_and_sparse_scores_have_the_same_lists_by_score_and_then_by_the_order_of_equals(asked, parts):
    with patch.object(module, "PARTS", parts):
        dense, sparse = (
            best_items(scores, asked.moments, asked.limit) for scores in (asked.scores, csr_array(asked.scores))
        )
    for row, scores in enumerate(asked.scores):
        items = asked.all_in_order(row)[: asked.limit]
        padding = asked.limit - len(items)
        for lists in (dense, sparse):
            assert lists.items[row].tolist() == items + [NO_ITEM] * padding
            np.testing.assert_array_equal(lists.scores[row], [*scores[items], *[np.nan] * padding])


@given(asked(), st.integers(1, 40))
def test_single_scores_are_those_of_the_table_however_many_rows_are_read_at_once(asked, at_once):
    row, item = np.nonzero(np.ones(asked.scores.shape))
    with patch.object(module, "SCORES_AT_ONCE", at_once):
        for scores in (asked.scores, csr_array(asked.scores)):
            np.testing.assert_array_equal(scores_at(scores, row, item), asked.scores[row, item])


@given(asked(), st.integers(1, 40), st.sampled_from([0, 2]))
def test_an_item_has_the_rank_that_it_has_in_the_list(asked, at_once, dense_share):
    moments = asked.moments
    for row in range(len(asked.scores)):
        items = np.array(asked.all_in_order(row), dtype=np.int64)
        of_row = np.full(len(items), row)
        for scores in (asked.scores[of_row], csr_array(asked.scores[of_row].reshape(-1, asked.scores.shape[1]))):
            with patch.multiple(module, SCORES_AT_ONCE=at_once, DENSE_SHARE=dense_share):
                assert ranks_of(scores, moments[of_row], items).tolist() == list(range(1, len(items) + 1))


def test_scores_that_are_no_numbers_are_refused():
    one = Asked(np.array([[1.0, np.nan, 2.0]]), [0, 1, 2], [[]], [None], 2)
    for scores in (one.scores, csr_array(one.scores)):
        with pytest.raises(ValueError, match=r"^1 of 3 scores are not numbers; train the model again\.$"):
            best_items(scores, one.moments, 2)


@given(logs(), st.booleans(), st.data())
def test_a_user_gets_what_is_new_at_each_moment_of_their_own_or_anything_with_repeat(log, repeat, data):
    training, events = Training.from_log(log), log.sequences
    users = data.draw(st.lists(st.integers(0, 3), min_size=1))  # one may ask several times
    ends = [data.draw(st.integers(events.starts[user], events.ends[user])) for user in users]
    frame = pl.DataFrame({"user_index": users, "history_end": ends, "timestamp": [9] * len(users)})
    moments = training.moments(frame, repeat=repeat, excluded=np.array([2]))
    for row, (user, end) in enumerate(zip(users, ends, strict=True)):
        taken = set() if repeat else set(events.item_index[events.starts[user] : end].tolist())
        may = [item not in taken | {2} for item in range(log.items.height)]
        assert moments.mask[row].tolist() == may
        assert moments.allows(row, np.arange(log.items.height)).tolist() == may
        expected = [item for item in training.order.items.tolist() if may[item]]
        assert moments.first(row, 3).tolist() == expected[:3]
        assert moments.first(row, 3, without=np.array(expected[:1], dtype=np.int64)).tolist() == expected[1:4]


def test_blocks_are_all_rows_once_and_one_block_is_the_moments_themselves(log, monkeypatch):
    moments = Training.from_log(log).moments(log.now(pl.DataFrame({"user_index": range(30)})))
    assert [(rows, block is moments) for rows, block in moments.blocks()] == [(slice(0, 30), True)]
    monkeypatch.setattr(module, "LEAST_AT_ONCE", 4)
    for scores, size in ((7 * moments.items, 7), (1, 4)):
        monkeypatch.setattr(module, "SCORES_AT_ONCE", scores)
        rows = [range(30)[rows] for rows, _ in moments.blocks()]
        assert [row for of_block in rows for row in of_block] == list(range(30))
        assert max(map(len, rows)) == size
