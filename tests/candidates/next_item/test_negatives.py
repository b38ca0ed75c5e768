"""Negatives that a retriever finds."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from cycle_log import catalogue_scores, changed
from reclora_kedro.candidates.next_item.reader import RetrieverReader, with_retrieved_negatives
from reclora_kedro.candidates.next_item.training import fit_retriever
from reclora_kedro.history.config import NegativesConfig
from reclora_kedro.history.splits import SPLIT_NAMES
from reference_log import add_negatives


@pytest.fixture(scope="module")
def drawn(log):
    """The log with two negatives for each like, and one like that its user did not like after all."""
    samples = add_negatives(log, NegativesConfig(kind="uniform", per_positive=2), seed=0)
    disliked = pl.when(row=0).then(pl.lit(0, pl.Int8)).otherwise("label")
    return replace(log, samples=samples.with_columns(label=disliked))


@pytest.fixture(scope="module")
def retriever(log, config):
    return fit_retriever(log, config.model_copy(update={"max_epochs": 1}))[0]


def taken(log, user, until):
    return log.sequences.item_index[log.sequences.offsets[user] : until]


def test_each_is_found_first_at_its_moment_and_taken_in_no_earlier_split(drawn, retriever):
    before, after = drawn.samples, with_retrieved_negatives(drawn, retriever, 3, seed=0).samples
    assert after.drop("item_index").equals(before.drop("item_index"))
    kept = (pl.col("label") == 1) | (pl.col("split") == "test") | (pl.col("row") == 0)
    assert after.filter(kept).equals(before.filter(kept))
    assert set(SPLIT_NAMES) == set(after["split"])
    negatives, places = after.filter(~kept), set()
    scores = catalogue_scores(RetrieverReader(retriever, drawn), negatives)
    for (user, item, split), of_items in zip(
        negatives.select("user_index", "item_index", "split").iter_rows(), scores, strict=True
    ):
        until = before.filter(user_index=user, split=split)["event"].max() + 1
        of_items[taken(drawn, user, until)] = -np.inf
        places.add(int((of_items > of_items[item]).sum()))
    assert places == {0, 1, 2}
    assert after.equals(with_retrieved_negatives(drawn, retriever, 3, seed=0).samples)


def test_no_later_event_changes_one_of_the_training_split(drawn, retriever):
    later = ~drawn.training_events()
    other = changed(drawn, item_index=np.where(later, 0, drawn.sequences.item_index))
    one, two = (with_retrieved_negatives(log, retriever, 3, seed=0).samples for log in (drawn, other))
    assert later.any()
    assert one.filter(split="train").equals(two.filter(split="train"))
    assert not one.filter(split="validation").equals(two.filter(split="validation"))


def test_a_log_without_drawn_negatives_is_refused(log, drawn, retriever):
    by_item = drawn.samples.drop("row").sort("timestamp", "user_index", "item_index").with_row_index("row")
    impressions = replace(drawn, samples=by_item)
    for other in (log, impressions):
        with pytest.raises(
            ValueError, match=r"lens\.retrieved_negatives is 5, .* set history\.negatives\.kind to matched"
        ):
            with_retrieved_negatives(other, retriever, 5, seed=0)
