import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from random_logs import ITEMS, USERS, embedded_logs, interaction_tables, item_embeddings, log_of, logs
from reclora_kedro.history import retrieval
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.retrieval import WindowConfig
from reclora_kedro.history.splits import SplitConfig
from reference_log import reference_log

WINDOWS = st.builds(WindowConfig, kind=st.sampled_from(["retrieved", "recent"]), k=st.integers(1, 7))
DISTINCT = np.eye(ITEMS.height, dtype=np.float32)


def histories(log: InteractionLog, window: WindowConfig) -> np.ndarray:
    return log.histories(log.samples, window)


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    norms = np.linalg.norm(left.astype(float)) * np.linalg.norm(right.astype(float))
    return round(float(left @ right) / norms, 9) if norms else 0.0


def reference(log: InteractionLog, window: WindowConfig) -> np.ndarray:
    """The definition, one row at a time."""
    sequences, embeddings = log.sequences, log.item_embeddings
    rows = []
    for sample in log.samples.iter_rows(named=True):
        own = range(sequences.offsets[sample["user_index"]], sequences.offsets[sample["user_index"] + 1])
        past = [event for event in own if sequences.timestamp[event] < sample["timestamp"]]
        target = embeddings[sample["item_index"]]

        def rank(event: int, target: np.ndarray = target) -> tuple[float, int]:
            return cosine(target, embeddings[sequences.item_index[event]]), event

        ranked = sorted(past, key=rank if window.kind == "retrieved" else None)
        kept = sorted(ranked[-window.k :])
        rows.append(kept)
    length = max(1, *map(len, rows))
    return np.array([kept + [-1] * (length - len(kept)) for kept in rows], dtype=np.int32)


@given(embedded_logs(), WINDOWS, st.sampled_from([1, 7, 2**18]))
def test_histories_agree_with_a_loop_over_the_rows(log, window, cells):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "CELLS_PER_BLOCK", cells)
        found = histories(log, window)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, reference(log, window))


@given(embedded_logs(), WINDOWS)
def test_nothing_at_or_after_the_row_enters_its_history(log, window):
    events, sequences = histories(log, window), log.sequences
    row, column = np.nonzero(events >= 0)
    seen = events[row, column]
    assert (sequences.timestamp[seen] < log.samples["timestamp"].to_numpy()[row]).all()
    user = log.samples["user_index"].to_numpy()[row]
    assert (seen >= sequences.offsets[user]).all()
    assert (seen < sequences.offsets[user + 1]).all()


@given(embedded_logs(), WINDOWS)
def test_histories_are_in_time_order_left_aligned_and_as_long_as_can_be(log, window):
    events = histories(log, window)
    past = log.samples["history_end"].to_numpy() - log.sequences.offsets[log.samples["user_index"]]
    np.testing.assert_array_equal((events >= 0).sum(1), np.minimum(past, window.k))
    after_padding = (events[:, :-1] < 0) & (events[:, 1:] >= 0)
    assert not after_padding.any()
    both = events[:, 1:] >= 0
    assert (events[:, 1:][both] > events[:, :-1][both]).all()


@given(logs(), st.integers(1, 7), st.sampled_from([0.0, 0.3]))
def test_of_equally_similar_events_the_recent_ones_are_retrieved(log, k, value):
    alike = log.with_embeddings(np.full((ITEMS.height, 3), value, dtype=np.float32))
    retrieved, recent = (histories(alike, WindowConfig(kind=kind, k=k)) for kind in ("retrieved", "recent"))
    np.testing.assert_array_equal(retrieved, recent)


@given(logs())
def test_the_nearest_neighbour_of_an_item_is_itself(log):
    sequences = log.sequences
    nearest = histories(log.with_embeddings(DISTINCT), WindowConfig(kind="retrieved", k=1))[:, 0]
    for sample, event in zip(log.samples.iter_rows(named=True), nearest, strict=True):
        past = sequences.item_index[sequences.offsets[sample["user_index"]] : sample["history_end"]]
        if sample["item_index"] in past:
            assert sequences.item_index[event] == sample["item_index"]


@pytest.mark.filterwarnings("error")
def test_a_zero_embedding_is_alike_to_nothing_and_opposed_to_nothing():
    interactions = pl.DataFrame(
        {
            "user_id": ["ann"] * 4,
            "item_id": [3, 5, 8, 13],
            "timestamp": [1, 2, 3, 4],
            "rating": [1.0] * 4,
            "label": [0] * 4,
        }
    )
    opposed_zero_alike_target = np.array([[0, 1], [0, 0], [0, -1], [0, -2], [1, 0]], dtype=np.float32)
    log = log_of(interactions).with_embeddings(opposed_zero_alike_target)
    assert histories(log, WindowConfig(kind="retrieved", k=2))[-1].tolist() == [1, 2]


@pytest.mark.parametrize("kind", ["global_time", "per_user_last_out"])
def test_no_training_row_sees_a_validation_or_test_event(kind):
    rows, rng = 600, np.random.default_rng(0)
    interactions = pl.DataFrame(
        {
            "user_id": rng.choice(USERS["user_id"].to_list(), rows),
            "item_id": rng.choice(ITEMS["item_id"].to_numpy(), rows),
            "timestamp": rng.integers(1, 60, rows),
            "rating": rng.choice([2.0, 5.0], rows),
        }
    ).unique(["user_id", "item_id", "timestamp"], keep="first", maintain_order=True)
    interactions = interactions.with_columns(label=(pl.col("rating") > 3).cast(pl.Int8))
    split = SplitConfig(kind=kind, train=0.8, validation=0.1)
    log = reference_log(interactions, ITEMS, USERS, split=split)
    held_out = log.samples.filter(pl.col("split") != "train")["event"].to_list()
    seen_in_training = histories(log, WindowConfig(kind="recent", k=rows))[log.rows_in("train")]
    assert not np.isin(seen_in_training, held_out).any()


@given(interaction_tables(), item_embeddings(), WINDOWS, st.randoms(use_true_random=False))
def test_the_order_of_the_logs_rows_changes_no_history(interactions, embeddings, window, random):
    shuffled = interactions[random.sample(range(interactions.height), interactions.height)]
    plain, permuted = (log_of(table).with_embeddings(embeddings) for table in (interactions, shuffled))
    np.testing.assert_array_equal(histories(plain, window), histories(permuted, window))


@given(embedded_logs(), st.floats(min_value=1e-3, max_value=1e3))
def test_the_length_of_an_embedding_does_not_matter(log, scale):
    window = WindowConfig(kind="retrieved", k=3)
    scaled = log.with_embeddings(log.item_embeddings * np.float32(scale))
    np.testing.assert_array_equal(histories(log, window), histories(scaled, window))


@given(logs())
def test_only_a_retrieved_history_needs_item_embeddings(log):
    assert len(histories(log, WindowConfig(kind="recent", k=3))) == log.samples.height
    with pytest.raises(ValueError, match="has no item vectors, which a retrieved history needs"):
        histories(log, WindowConfig(kind="retrieved", k=3))
