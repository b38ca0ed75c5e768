"""Events, age and similarity of items at moments."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from circle_log import circle_log
from reclora_kedro.history.item_facts import ItemFacts


@pytest.fixture(scope="module")
def log():
    log = circle_log()
    return log.with_embeddings(np.random.default_rng(1).normal(size=(log.items.height, 3)))


def facts_of(log, known=None, **pair):
    pairs = pl.DataFrame({name: [value] for name, value in pair.items()})
    return {name: values[0] for name, values in ItemFacts(log, known).features(log.sequences, pairs).items()}


def test_facts_are_those_of_the_moment(log):
    user, second = 7, 3
    facts = facts_of(log, user_index=user, history_end=5 * user + 3, timestamp=second, item_index=4)
    item, seconds = log.sequences.item_index, log.sequences.timestamp
    events = np.flatnonzero((item == 4) & (seconds < second))
    assert facts["events"] == facts["recent_events"] == pytest.approx(np.log1p(len(events)))
    assert facts["days_since_item"] == pytest.approx(np.log1p((second - seconds[events].max()) / 86_400))
    assert facts["item_age"] == pytest.approx(np.log1p((second - seconds[events].min()) / 86_400))
    assert facts["history_length"] == pytest.approx(np.log(4))
    assert facts["days_since_event"] == pytest.approx(np.log1p(1 / 86_400))
    vectors = log.item_embeddings / np.linalg.norm(log.item_embeddings, axis=1, keepdims=True)
    cosines = vectors[item[5 * user : 5 * user + 3]] @ vectors[4]
    assert (facts["cosine_last"], facts["cosine_latest"]) == pytest.approx((cosines[-1], cosines.max()), abs=1e-6)
    known = log.sequences.timestamp < second - 1
    earlier = facts_of(log, known, user_index=user, history_end=5 * user + 3, timestamp=second, item_index=4)
    assert earlier["events"] == pytest.approx(np.log1p(np.count_nonzero(known[events])))


def test_what_is_unknown_of_an_item_or_a_user_is_marked(log):
    facts = facts_of(log, user_index=7, history_end=35, timestamp=9, item_index=20)
    unknown = {name: value for name, value in facts.items() if value}
    assert unknown == {"days_since_item": -1, "item_age": -1, "days_since_event": -1}


def test_without_a_shared_clock_all_known_events_count_and_nothing_has_an_age(log):
    without = replace(log, shared_clock=False)
    moment = {"user_index": 7, "history_end": 38, "item_index": 4}
    early, late = (facts_of(without, timestamp=second, **moment) for second in (0, 10**9))
    assert early == late
    assert early["events"] == pytest.approx(np.log1p(np.count_nonzero(log.sequences.item_index == 4)))
    assert early["item_age"] == early["days_since_item"] == early["recent_events"] == early["days_since_event"] == 0
