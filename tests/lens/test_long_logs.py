"""Logs longer than memory: what the lens and the retriever hold of a log that is mapped from its files."""

import tracemalloc

import numpy as np
import polars as pl
import pytest
import torch

from reclora_kedro.candidates.next_item.training import Windows
from reclora_kedro.distributed.group import Group
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.sequences import Sequences
from reclora_kedro.history.splits import SPLITS
from reclora_kedro.history.taken_items import TakenItems, taken_before, validation_likes
from reclora_kedro.lens.features import fresh_lens
from reclora_kedro.lens.training import LensTraining, Passes, fit_lens

BLOCKS = (
    "history.log.ROWS_PER_BLOCK",
    "history.rating_statistics.CELLS_AT_ONCE",
    "history.rating_statistics.VALUES_AT_ONCE",
    "history.sequences.ROWS_AT_ONCE",
    "history.taken_items.EVENTS_AT_ONCE",
    "lens.training.GATHERED_ROWS",
)
USERS, ITEMS = 100, 5_000


@pytest.fixture
def in_blocks(monkeypatch):
    def set_sizes(size):
        for name in BLOCKS:
            monkeypatch.setattr(f"reclora_kedro.{name}", size)

    return set_sizes


def test_a_stored_log_in_blocks_teaches_what_the_log_in_memory_does(log, config, in_blocks, tmp_path):
    config = config.model_copy(update={"model": "sim", "max_epochs": 1, "batch_size": 32, "batch_parts": 4})
    expected, _ = fit_lens(log, config)
    in_blocks(50)
    log.save(tmp_path)
    stored = InteractionLog.load(tmp_path)
    assert 1 < stored.samples.n_chunks() <= 8
    lens, _ = fit_lens(stored, config)
    assert all(map(torch.equal, lens.state_dict().values(), expected.state_dict().values()))
    taken = TakenItems.from_sequences(log.sequences).before(log.samples)
    np.testing.assert_array_equal(taken_before(stored.sequences, stored.samples), taken)


def made_up(events):
    """A log of so many events, most of them samples of the training split."""
    random = np.random.default_rng(0)
    user, seconds = np.sort(random.integers(USERS, size=events)), np.arange(events)
    offsets = np.searchsorted(user, np.arange(USERS + 1))
    columns = {
        "user_index": user.astype(np.int32),
        "item_index": random.integers(ITEMS, size=events, dtype=np.int32),
        "label": random.integers(2, size=events, dtype=np.int8),
        "timestamp": seconds,
    }
    sequences = Sequences(
        offsets=offsets,
        rating=columns["label"].astype(np.float32),
        rating_level=columns["label"].astype(np.uint8),
        **{name: columns[name] for name in ("item_index", "label", "timestamp")},
    )
    samples = pl.DataFrame(columns | {"event": seconds, "history_end": seconds}).with_row_index("row")
    samples = samples.with_columns(
        split=pl.Series(np.where(seconds < events - 2_000, "train", "validation"), dtype=SPLITS)
    )
    tables = [pl.DataFrame({f"{kind}_id": range(count)}) for kind, count in (("item", ITEMS), ("user", USERS))]
    return InteractionLog(tables[0].with_columns(title=pl.lit("A")), tables[1], sequences, samples)


def learn(log, config):
    """All that is held of the whole log, with few steps and a validation."""

    class FewSteps(LensTraining):
        def epoch(self, shuffled, progress):
            return super().epoch(shuffled[:1_000], progress)

    lens, loader = fresh_lens(log, config)
    FewSteps(lens, loader, 1e-3, Group()).run(Passes(log.rows_in("train"), 1), 1)
    del lens, loader
    Windows.from_log(log, 50)
    validation_likes(log, 100, 0)


def test_memory_grows_by_few_bytes_per_row(config, in_blocks, monkeypatch):
    in_blocks(2_000)
    monkeypatch.setattr("reclora_kedro.lens.features.SCALING_ROWS", 1_000)
    config = config.model_copy(
        update={"validation_rows": 500, "item_text": False, "co_occurrence_folds": 0, "batch_size": 250}
    )
    peaks, sizes = [], (10_000, 100_000, 300_000)  # the first one imports what training reads
    for log in map(made_up, sizes):
        tracemalloc.start()
        learn(log, config)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Per row: 48 bytes of statistics, 12 of row numbers and their order, and what sorting takes.
    assert (peaks[2] - peaks[1]) / (sizes[2] - sizes[1]) < 80
