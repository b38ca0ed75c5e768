"""Code tables and batches."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from kedro_provenance.errors import MismatchError
from reclora_kedro.history.rating_statistics import RatingStatistics
from reclora_kedro.history.retrieval import WindowConfig
from reclora_kedro.lens import features
from reclora_kedro.lens.base import build_lens
from reclora_kedro.lens.config import LensSizes
from reclora_kedro.lens.features import LensLoader, coded_values, encode_fields


def test_values_get_codes_by_field_and_padding_gets_zero() -> None:
    items = pl.DataFrame(
        {
            "item_id": [1, 2, 3, 4],
            "title": ["a", "b", "c", "d"],
            "genres": ["Drama, War ,Drama", "War", None, ""],
            "country": ["War", "War", "War", None],
        }
    )
    values = coded_values(items, seen=np.ones(4, dtype=bool), min_count=1)
    assert values == {"genres": ("Drama", "War"), "country": ("War",)}
    codes = [[[1, 2], [3, 0]], [[2, 0], [3, 0]], [[0, 0], [3, 0]], [[0, 0], [0, 0]]]
    assert encode_fields(items, values).tolist() == codes


def test_rare_and_unseen_values_get_no_code() -> None:
    users = pl.DataFrame({"user_id": range(4), "zip_code": ["1", "1", "2", "3"]})
    values = coded_values(users, seen=np.array([True, True, True, False]), min_count=2)
    assert values == {"zip_code": ("1",)}
    assert encode_fields(users, values).flatten().tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("fields", [{}, {"gender": [None, None]}])
def test_tables_without_fields_or_values(fields: dict) -> None:
    users = pl.DataFrame({"user_id": [1, 2], **fields}, schema_overrides={"gender": pl.String} if fields else None)
    values = coded_values(users, seen=np.ones(2, dtype=bool), min_count=1)
    assert values == dict.fromkeys(fields, ())
    assert encode_fields(users, values).shape == (2, len(fields), 1)


def test_a_table_without_a_field_that_the_lens_reads_is_refused() -> None:
    with pytest.raises(MismatchError, match="The lens reads the fields gender, which a table of the log lacks"):
        encode_fields(pl.DataFrame({"user_id": [1], "age": ["20"]}), {"gender": ("F",), "age": ()})


@pytest.fixture
def lens_of(log, config):
    """An untrained lens for the log, by its model and the kind and length of its long history."""

    def build(model: str, kind: str = "recent", k: int = 6, users: int = log.users.height):
        window = WindowConfig(kind=kind, k=k)
        changes = {"model": model, "recent_length": 4, "long_history": window}
        sizes = LensSizes(
            users=users,
            user_fields={},
            user_width=0,
            items=log.items.height,
            item_fields={},
            item_width=0,
            item_text_widths=(4,),
            rating_levels=4,
            rating_range=(1, 5),
            trained_until=int(log.sequences.timestamp.max()),
        )
        return build_lens(config.model_copy(update=changes), sizes)

    return build


@pytest.mark.parametrize("chunk", [features.WINDOW_EVENTS, 1])
def test_batches_hold_what_the_sequences_say(log, lens_of, monkeypatch, chunk) -> None:
    monkeypatch.setattr(features, "WINDOW_EVENTS", chunk)
    sequences = log.sequences
    asked = log.samples[[200, 3, 77, 8, 150]]
    statistics = RatingStatistics(log).compute(asked).to_torch()
    batches = list(LensLoader(log, lens_of("sim")).batches(asked, 2))
    assert [places.tolist() for places, _ in batches] == [[0, 1], [2, 3], [4]]
    for places, batch in batches:
        assert torch.equal(batch.statistics, statistics[places])
        for place, row in enumerate(places):
            sample = asked.row(int(row), named=True)
            start, end = sequences.offsets[sample["user_index"]], sample["history_end"]
            assert batch.user[place] == sample["user_index"]
            assert batch.item[place] == sample["item_index"]
            for history, length in ((batch.recent_history, 4), (batch.long_history, 6)):
                events = np.arange(max(start, end - length), end)
                assert history.mask[place].sum() == len(events)
                assert history.item[place, : len(events)].tolist() == sequences.item_index[events].tolist()
                assert history.rating[place, : len(events)].tolist() == sequences.rating_level[events].tolist()


def test_a_retrieved_history_is_the_retrievers(log, lens_of) -> None:
    lens, rows = lens_of("sim", "retrieved", k=3), np.array([200, 3, 77])
    [(_, batch)] = LensLoader(log, lens).batches(log.samples[rows], 3)
    expected = log.histories(log.samples[rows], lens.config.long_history)
    assert torch.equal(batch.long_history.mask, torch.from_numpy(expected >= 0))
    found = log.sequences.item_index[expected[expected >= 0]]
    assert batch.long_history.item[batch.long_history.mask].tolist() == found.tolist()


@pytest.mark.parametrize(("model", "asked"), [("din", True), ("sim", False)], ids=["never reads one", "is spared it"])
def test_a_lens_that_reads_no_long_history_gets_an_empty_one(log, lens_of, model, asked) -> None:
    loader = LensLoader(log, lens_of(model, "retrieved"), targets=asked)
    [(_, batch)] = loader.batches(log.samples[[200, 3]], 2)
    assert not batch.long_history.mask.any()
    assert batch.recent_history.mask.any()


def test_no_rows_make_no_batches(log, lens_of) -> None:
    assert list(LensLoader(log, lens_of("sim")).batches(log.samples[[]], 2)) == []


def test_a_lens_of_another_log_is_refused(log, lens_of) -> None:
    message = "The log has 30 users, but the lens knows 2: they stem from different runs"
    with pytest.raises(MismatchError, match=message) as refusal:
        LensLoader(log, lens_of("din", users=2))
    assert refusal.value.entries == ("log", "lens")
    with pytest.raises(MismatchError, match="The log has 7 items, but the lens knows 40"):
        LensLoader(replace(log, items=log.items[:7]), lens_of("din"))
