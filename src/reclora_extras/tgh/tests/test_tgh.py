import numpy as np
import polars as pl

from circle_log import circle_log
from reclora_extras.tgh import TransitionRings
from reclora_kedro.candidates.item_model import NoSettings, Training
from reference_log import reference_log


def lists(log, limit):
    training = Training.from_log(log) if "split" not in log.samples.columns else Training.from_split(log)
    ends = log.sequences.starts + 1
    frame = pl.DataFrame({"user_index": np.arange(len(ends)), "history_end": ends, "timestamp": np.zeros_like(ends)})
    return TransitionRings.fit(training, NoSettings()).top(training.moments(frame), limit).items


def test_rings_follow_one_another_around_the_latest_item():
    log = circle_log()
    latest = log.sequences.item_index[log.sequences.starts]
    np.testing.assert_array_equal(lists(log, 3), (latest[:, None] + [1, 2, 3]) % 20)


def test_within_the_first_ring_texts_and_counts_decide():
    taken = [("a", "b"), ("a", "b"), ("a", "b"), ("a", "c"), ("a", "d"), ("d", "e")]
    interactions = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(6), 2),
            "item_id": [item for pair in taken for item in pair],
            "rating": 5.0,
            "timestamp": np.tile([0, 1], 6),
            "label": pl.Series(np.ones(12), dtype=pl.Int8),
        }
    )
    titles = ["Red nail polish", "Shampoo", "Red nail polish", "Soap", "Red nail file"]
    items = pl.DataFrame({"item_id": list("abcde"), "title": titles})
    log = reference_log(interactions, items, pl.DataFrame({"user_id": range(6)}), min_history=0)
    # c: cosine 1 and half of log 2 / log 4; b: no cosine, and half of 1; d: a quarter; then e, two steps away.
    assert lists(log, 4)[0].tolist() == [2, 1, 3, 4]
