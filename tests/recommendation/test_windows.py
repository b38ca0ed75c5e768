"""Windows of time, and what is fitted before each."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from named import PARAMETERS
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.recommendation import second_stage
from reclora_kedro.recommendation.backtest import Backtest
from reclora_kedro.recommendation.chosen import validated_configs
from reclora_kedro.recommendation.config import SECOND_STAGES, BacktestConfig, RecommendationConfig
from reclora_kedro.recommendation.windows import bounds_of_windows, log_until, windows_of
from reference_log import reference_log

USERS, ITEMS, SHELF, EVENTS, TAKEN = 60, 60, 10, 18, 6
CONFIG = BacktestConfig(windows=2, share=0.4, days=None, likes=None)
RECOMMENDATION = RecommendationConfig.model_validate(PARAMETERS["recommendation"])
CONFIGS = validated_configs(RECOMMENDATION.sources, PARAMETERS)
BOOTSTRAP = Bootstrap(confidence=0.95, seed=0).model_copy(update={"samples": 100})


def backtest_of(log, **others):
    blocks = {"config": CONFIG, "recommendation": RECOMMENDATION, "configs": CONFIGS, "bootstrap": BOOTSTRAP}
    return Backtest(log=log, **blocks, **others)


@pytest.fixture
def log() -> InteractionLog:
    """Users, all at once, take items of one shelf after another."""
    random = np.random.default_rng(0)
    shelves = [random.permutation(ITEMS // SHELF)[: EVENTS // TAKEN] for _ in range(USERS)]
    item = np.array(
        [[shelf * SHELF + place for shelf in own for place in random.permutation(SHELF)[:TAKEN]] for own in shelves]
    )
    second = 10_000 + 100 * np.arange(EVENTS) + random.integers(0, 90, (USERS, 1))
    columns = {"user_id": np.repeat(np.arange(USERS), EVENTS), "item_id": item.ravel(), "timestamp": second.ravel()}
    interactions = pl.DataFrame(columns).with_columns(rating=5.0, label=pl.lit(1, pl.Int8))
    items = pl.DataFrame({"item_id": range(ITEMS), "title": [f"Film {'abc'[item % 3]}" for item in range(ITEMS)]})
    log = reference_log(interactions, items, pl.DataFrame({"user_id": range(USERS)}), min_history=1)
    return log.with_embeddings(random.normal(size=(ITEMS, 3)))


def with_other_events_from(log, second):
    """The same log, whose users took other items of these from a second on."""
    events, samples = log.sequences, log.samples
    later = events.timestamp >= second
    items = events.item_index.copy()
    items[later] = np.random.default_rng(1).permutation(items[later])
    item = pl.when(pl.col("timestamp") >= second).then(pl.Series(items[samples["event"].to_numpy()]))
    samples = samples.with_columns(item_index=item.otherwise("item_index"))
    return replace(log, sequences=replace(events, item_index=items), samples=samples)


def lists_before(window):
    """The lists of all methods at the first second of a window."""
    events = window.training.log.sequences
    users = np.arange(len(events.starts))
    end = events.starts + np.add.reduceat(events.timestamp < window.start, events.starts)
    frame = pl.DataFrame({"user_index": users, "history_end": end, "timestamp": window.start})
    moments = window.recommender.moments(frame)
    return {
        kind: window.recommender.list_maker(kind).top(moments, 10).items.tolist()
        for kind in (*window.recommender.sources, *SECOND_STAGES)
    }


@pytest.mark.parametrize("number", [1, 2])
def test_nothing_of_a_window_is_read_by_what_is_fitted_before_it(log, number, monkeypatch):
    monkeypatch.setattr(second_stage, "LEAST_USERS", 3)
    start = bounds_of_windows(log.sequences.timestamp, CONFIG)[number + 1]
    before, after = (
        [*windows_of(each, CONFIG, RECOMMENDATION, CONFIGS)][number]
        for each in (log, with_other_events_from(log, start))
    )
    assert before.start == after.start == start
    assert before.recommender.choice.stage.weights is not None
    assert not before.likes["item_index"].equals(after.likes["item_index"])
    assert lists_before(before) == lists_before(after)


def test_a_log_until_a_second_has_no_later_event_item_or_like(log):
    validates, tests, end = (int(np.quantile(log.sequences.timestamp, share)) for share in (0.02, 0.03, 0.04))
    cut, events = log_until(replace(log, repeats=log.samples), validates, tests, end), log.sequences
    assert cut.sequences.timestamp.max() < end
    assert cut.sequences.offsets[-1] == (events.timestamp < end).sum()
    later, earlier = ({*events.item_index[part].tolist()} for part in (events.timestamp >= end, events.timestamp < end))
    assert {*cut.items["item_id"].to_list()} == {*range(ITEMS)} - (later - earlier) != {*range(ITEMS)}
    titles = cut.items["item_id"].to_numpy()[cut.sequences.item_index]
    assert titles.tolist() == events.item_index[events.timestamp < end].tolist()
    assert cut.repeats.drop("row").equals(cut.samples.drop("row"))
    for row in cut.samples.iter_rows(named=True):
        assert cut.sequences.item_index[row["event"]] == row["item_index"]
        assert cut.sequences.timestamp[row["event"]] == row["timestamp"]
        own = slice(cut.sequences.offsets[row["user_index"]], row["history_end"])
        assert (cut.sequences.timestamp[own] < row["timestamp"]).all()


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"share": 0.9}, r"backtest\.share is 0\.9, but 4 such windows \(two before the 2 test windows\)"),
        ({"days": 1}, r"backtest\.days is 1, but 4 such windows"),
    ],
)
def test_windows_that_the_log_cannot_hold_are_refused(log, changes, pattern):
    with pytest.raises(ValueError, match=pattern):
        next(windows_of(log, CONFIG.model_copy(update=changes), RECOMMENDATION, CONFIGS))


def test_a_log_without_times_and_encoders_that_know_likes_are_refused(log):
    with pytest.raises(ValueError, match=r"history\.shared_clock is false, .*\. Compare methods"):
        backtest_of(replace(log, shared_clock=False)).run()
    with pytest.raises(ValueError, match=r"encoders names co_occurrence, which learns from likes in the test windows"):
        backtest_of(log, encoders=("tfidf", "co_occurrence")).run()


def test_a_model_that_reads_order_loses_by_a_shuffle_where_there_is_order(log):
    metrics, audited = backtest_of(log).run()
    assert [(each["window"], each["model"]) for each in metrics[:5]] == [
        (1, kind) for kind in (*RECOMMENDATION.sources, *SECOND_STAGES)
    ]
    assert len(metrics) == 2 * 5
    shuffled = next(each for each in audited if each["check"].startswith("change of this NDCG with shuffled"))
    assert shuffled["high"] < 0
