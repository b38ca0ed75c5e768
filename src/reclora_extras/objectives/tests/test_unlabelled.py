from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from random_logs import logs
from reclora_extras.objectives.unlabelled import CANDIDATES, draw_unlabelled


def split_in_two(log):
    """Half of the samples train; the others come later."""
    trains = pl.col("timestamp") <= pl.col("timestamp").median()
    split = pl.when(trains).then(pl.lit("train")).otherwise(pl.lit("test"))
    return replace(log, samples=log.samples.with_columns(split=split))


@given(logs().map(split_in_two), st.data())
def test_candidates_are_items_not_taken_and_labels_are_what_the_training_split_says_from_then_on(log, data):
    train = log.samples.filter(split="train")
    with pytest.raises(
        ValueError, match=rf"unlabelled asks for 99 moments, but the train split has {train.height} sam"
    ):
        draw_unlabelled(log, 99, seed=0)
    drawn = draw_unlabelled(log, data.draw(st.integers(1, train.height)), seed=data.draw(st.integers(0, 9)))
    assert set(drawn["use"]) <= {"unlabelled"}
    assert drawn["row"].to_list() == [*range(log.samples.height, log.samples.height + drawn.height)]
    moments = set(train.select("user_index", "history_end", "timestamp").rows())
    rows = drawn.rows(named=True)
    assert len(rows) % CANDIDATES == 0
    for start in range(0, len(rows), CANDIDATES):
        of_moment = rows[start : start + CANDIDATES]
        assert len({asked["item_index"] for asked in of_moment}) == CANDIDATES
        assert len({(asked["user_index"], asked["history_end"]) for asked in of_moment}) == 1
        for asked in of_moment:
            moment = asked["user_index"], asked["history_end"], asked["timestamp"]
            assert moment in moments
            own = slice(log.sequences.offsets[moment[0]], moment[1])
            assert asked["item_index"] not in log.sequences.item_index[own]
            later = train.filter(user_index=moment[0], item_index=asked["item_index"]).filter(
                pl.col("timestamp") >= moment[2]
            )
            assert asked["label"] == (later["label"][-1] if later.height else None)
