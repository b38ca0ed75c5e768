"""Code tables and batches."""

import numpy as np
import polars as pl
import pytest
import torch

from reclora_kedro.histories.retrieval import WindowConfig, assemble_history
from reclora_kedro.lens import features
from reclora_kedro.lens.features import LensRows, encode_entities


def test_values_get_codes_by_field_and_padding_gets_zero() -> None:
    items = pl.DataFrame(
        {
            "item_id": [1, 2, 3, 4],
            "title": ["a", "b", "c", "d"],
            "genres": ["Drama, War ,Drama", "War", None, ""],
            "country": ["War", "War", "War", None],
        }
    )
    codes = encode_entities(items, seen=np.ones(4, dtype=bool), min_count=1)
    assert codes.fields == ["genres", "country"]
    assert codes.field_codes.tolist() == [[[1, 2], [3, 0]], [[2, 0], [3, 0]], [[0, 0], [3, 0]], [[0, 0], [0, 0]]]
    assert codes.values == 3
    assert codes.id_codes.tolist() == [1, 2, 3, 4]


def test_rows_outside_the_training_split_share_the_unknown_id() -> None:
    users = pl.DataFrame({"user_id": ["x", "y", "z"]})
    codes = encode_entities(users, seen=np.array([True, False, False]), min_count=1)
    assert codes.id_codes.tolist() == [1, 0, 0]


def test_rare_and_unseen_values_get_no_code() -> None:
    users = pl.DataFrame({"user_id": range(4), "zip_code": ["1", "1", "2", "3"]})
    codes = encode_entities(users, seen=np.array([True, True, True, False]), min_count=2)
    assert codes.field_codes.flatten().tolist() == [1, 1, 0, 0]
    assert codes.values == 1


@pytest.mark.parametrize("fields", [{}, {"gender": [None, None]}])
def test_tables_without_fields_or_values(fields: dict) -> None:
    users = pl.DataFrame({"user_id": [1, 2], **fields}, schema_overrides={"gender": pl.String} if fields else None)
    codes = encode_entities(users, seen=np.ones(2, dtype=bool), min_count=1)
    assert codes.field_codes.shape == (2, len(fields), 1)
    assert codes.values == 0


@pytest.mark.parametrize("chunk", [features.WINDOW_EVENTS, 1])
def test_batches_hold_what_the_sequences_say(data, monkeypatch, chunk) -> None:
    monkeypatch.setattr(features, "WINDOW_EVENTS", chunk)
    window = WindowConfig(kind="recent", k=6)
    rows = LensRows(data.samples, data.sequences, data.item_embeddings, recent_length=4, long_history=window)
    chosen = np.array([200, 3, 77, 8, 150])
    batches = list(rows.batches(chosen, 2))
    assert [numbers.tolist() for numbers, _ in batches] == [[200, 3], [77, 8], [150]]
    for numbers, batch in batches:
        for place, row in enumerate(numbers):
            sample = data.samples.row(int(row), named=True)
            start, end = data.sequences.offsets[sample["user_index"]], sample["history_end"]
            assert batch.user[place] == sample["user_index"]
            assert batch.item[place] == sample["item_index"]
            for history, length in ((batch.recent_history, 4), (batch.long_history, 6)):
                events = np.arange(max(start, end - length), end)
                assert history.mask[place].sum() == len(events)
                assert history.item[place, : len(events)].tolist() == data.sequences.item_index[events].tolist()
                assert history.rating[place, : len(events)].tolist() == data.sequences.rating_level[events].tolist()


def test_a_retrieved_history_is_the_retrievers(data) -> None:
    window = WindowConfig(kind="retrieved", k=3)
    rows = LensRows(data.samples, data.sequences, data.item_embeddings, recent_length=4, long_history=window)
    chosen = np.array([200, 3, 77])
    [(_, batch)] = rows.batches(chosen, 3)
    expected = assemble_history(data.samples[chosen], data.sequences, data.item_embeddings, window)
    assert torch.equal(batch.long_history.mask, torch.from_numpy(expected >= 0))
    found = data.sequences.item_index[expected[expected >= 0]]
    assert batch.long_history.item[batch.long_history.mask].tolist() == found.tolist()


def test_a_lens_that_reads_no_long_history_gets_an_empty_one(data) -> None:
    rows = LensRows(data.samples, data.sequences, data.item_embeddings, recent_length=4, long_history=None)
    [(_, batch)] = rows.batches(np.array([200, 3]), 2)
    assert not batch.long_history.mask.any()
    assert batch.recent_history.mask.any()
