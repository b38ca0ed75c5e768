"""Drift of a log after a lens was trained, where something has drifted."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import yaml
from rich.console import Console

from parity_log import _one_thread, config, fit, log
from projects import ROOT
from reclora_extras.monitoring import nodes
from reclora_extras.monitoring.config import MonitoringConfig
from reclora_extras.monitoring.drift import SECONDS_PER_DAY, K, periods
from reclora_extras.monitoring.report import drift_table, plot_drift, write_drift_report
from reclora_kedro.lens.layers import UNKNOWN_ID
from reclora_kedro.recommendation.config import RecommendationConfig

__all__ = ["_one_thread", "config", "fit", "log"]

CONF = ROOT / "src/reclora_extras/monitoring/conf/parameters_monitoring.yml"
DAYS = 60 / SECONDS_PER_DAY  # an event each second
SETTINGS = yaml.safe_load(CONF.read_text())["monitoring"] | {"reference_days": DAYS, "period_days": DAYS, "seed": 0}
CONFIG = MonitoringConfig.model_validate(
    SETTINGS
    | {
        "alarms": SETTINGS["alarms"]
        | {"least": 20, "psi": 3, "calibration": 0.3, "auc_fall": 0.3, "hit_rate_fall": 0.5}
    }
)
BASE = yaml.safe_load((ROOT / "conf/base/parameters_recommendation.yml").read_text())["recommendation"]
RULES = RecommendationConfig.model_validate(BASE | {"seed": 0})


@pytest.fixture(scope="module")
def lens(fit):
    return fit("din")[0]


def drift_of(log, lens, config=CONFIG, rules=RULES, **choice):
    choice = {"kind": "item_knn", "order": "candidates", "sources": {"popularity": {}, "item_knn": {}}} | choice
    return nodes.measure_drift(log, lens, choice, rules, config)


def test_a_steady_log_raises_no_alarm_and_turned_labels_do(log, lens):
    steady = drift_of(log, lens)
    assert [record["alarms"] for record in steady] == [[]] * len(steady)
    assert steady[0]["begin"] == lens.sizes.trained_until + 1
    assert sum(record["events"] for record in steady) == log.last_second - lens.sizes.trained_until
    assert steady[0]["psi_ratings"] == 0
    assert min(record["auc"] for record in steady) > 0.7

    begin = steady[1]["begin"]
    turned = pl.when(pl.col("timestamp") >= begin).then(1 - pl.col("label")).otherwise("label")
    events = log.sequences
    ratings = np.where(events.timestamp >= begin, np.float32(3), events.rating)
    drifted = replace(log, samples=log.samples.with_columns(label=turned), sequences=replace(events, rating=ratings))
    records = drift_of(drifted, lens)
    assert records[0] == steady[0]
    alarms = " ".join(records[1]["alarms"])
    assert "PSI of ratings" in alarms
    assert f"more than 0.3 below {steady[0]['auc']:.3f}" in alarms
    terminal = Console(width=80)
    with terminal.capture() as shown:
        terminal.print(drift_table(records))
    assert "…" not in shown.get()
    page = write_drift_report(records, plot_drift(records, CONFIG), CONFIG)
    assert all(alarm in page for alarm in records[1]["alarms"])


def test_periods_without_events_are_left_out(log, lens):
    steady, events = drift_of(log, lens), log.sequences
    gap = 1_000 * 60  # seconds of a thousand periods

    def moved(timestamp):
        return timestamp + gap * (timestamp >= steady[1]["begin"])

    samples = log.samples.with_columns(timestamp=moved(pl.col("timestamp")))
    gapped = replace(log, samples=samples, sequences=replace(events, timestamp=moved(events.timestamp)))
    found = [(record["begin"], record["events"]) for record in drift_of(gapped, lens)]
    assert found == [(moved(record["begin"]), record["events"]) for record in steady]


def likes_in(log, record):
    period = pl.col("timestamp").is_between(record["begin"], record["end"], closed="left")
    return log.samples.filter(period, label=1).select("user_index", "item_index", "history_end")


def test_the_hit_rate_is_that_of_the_current_model_as_it_was_when_the_lens_had_been_trained(log, lens):
    events, items = log.sequences, log.items.height
    known = np.flatnonzero(events.timestamp <= lens.sizes.trained_until)
    known = known[np.argsort(events.timestamp[known])]
    likes = known[events.label[known] == 1]
    before_latest = likes[likes != known[-1]]  # popularity leaves the latest thousandth out; no pair comes twice
    counts = [np.bincount(events.item_index[own], minlength=items) for own in (before_latest, likes, known)]
    ranking = np.lexsort((np.arange(items), *(-count for count in reversed(counts))))
    for record in drift_of(log, lens, kind="popularity")[:2]:
        hits = []
        for one, item, end in likes_in(log, record).iter_rows():
            unseen = ranking[~np.isin(ranking, events.item_index[events.starts[one] : end])]
            hits.append(item in unseen[:K])
        assert record["recommends"] == "popularity"
        assert record["hit_rate"] == pytest.approx(np.mean(hits))
    fused = drift_of(log, lens, kind="fusion", order="lens")
    assert fused[0]["recommends"] == "fusion_lens"
    assert fused[0]["hit_rate"] > np.mean(hits)
    with pytest.raises(ValueError, match=r"when methods were compared, names retriever, but this run loads none"):
        drift_of(log, lens, kind="retriever", sources={"retriever": {}})


def test_likes_of_items_that_are_never_recommended_are_not_ranked(log, lens):
    excluded = {0, 1, 2, 3}
    without = RULES.model_copy(update={"exclude_items": tuple(map(str, excluded))})
    [every, some] = (drift_of(log, lens, rules=rules)[0] for rules in (RULES, without))
    own = likes_in(log, every)
    assert (every["likes"], some["likes"]) == (own.height, own.filter(~pl.col("item_index").is_in(excluded)).height)


def test_ids_that_the_lens_lacks_are_counted(log, lens):
    knows_half = deepcopy(lens)
    knows_half.user.id_codes[::2] = UNKNOWN_ID
    shares = {record["unknown_users"] for record in drift_of(log, knows_half)}
    assert 0.2 < min(shares) <= max(shares) < 0.8


def test_a_log_that_ends_within_the_reference_is_refused():
    with pytest.raises(ValueError, match=r"ends 2\.0 days after .* lower monitoring\.reference_days"):
        list(periods(0, 2 * SECONDS_PER_DAY, CONFIG.model_copy(update={"reference_days": 28})))
