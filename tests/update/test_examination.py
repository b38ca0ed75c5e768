"""New interactions that raise an alarm."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from cleaned_tables import SETTINGS
from parity_log import ITEMS, USERS
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.negatives import NegativesConfig
from reclora_kedro.history.sequences import user_of_events
from reclora_kedro.history.splits import SplitConfig
from reclora_kedro.ingestion.cleaning_report import CleaningReport
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.update.examination import ExaminationConfig, examine_events

INGESTION = IngestionConfig(**SETTINGS)
HISTORY = HistoryConfig.model_construct(
    seed=0, min_history=3, shared_clock=True, ties="strict", rating_levels=None,
    negatives=NegativesConfig(kind="none", per_positive=1),
    split=SplitConfig(kind="global_time", train=0.7, validation=0.15),
)  # fmt: skip
CONFIG = ExaminationConfig(user_share=0.5, user_rows=100, fall=0.1, fall_rows=50)


@pytest.fixture(scope="module")
def before(log):
    """The canonical interactions of a log."""
    events = log.sequences
    columns = {
        "user_id": user_of_events(events.offsets).astype(np.int64),
        "item_id": events.item_index.astype(np.int64),
        "rating": events.rating.astype(np.float64),
        "timestamp": events.timestamp,
        "label": events.label,
    }
    return pl.DataFrame(columns).sort("timestamp", "user_id", "item_id")


def later(log, rows=150):
    """New interactions of the same tastes."""
    random = np.random.default_rng(1)
    user, item = random.integers(USERS, size=rows), random.integers(ITEMS, size=rows)
    label = (user % 2 == item % 2).astype(np.int8)
    seconds = log.last_second + 1 + np.arange(rows)
    return pl.DataFrame(
        {"user_id": user, "item_id": item, "rating": label * 3.0 + 1, "timestamp": seconds, "label": label}
    )


def examined(new, before, log, lens):
    report = CleaningReport()
    return examine_events(new, before.lazy(), log, lens, INGESTION, HISTORY, CONFIG, report), report


def test_labels_that_were_turned_around_and_the_rows_of_a_bot_are_quarantined(log, before, fit):
    lens, new = fit("din")[0], later(log)
    known = before.tail(400).with_columns(item_id=pl.int_range(400, dtype=pl.Int64) % ITEMS)
    assert examined(new, before, log, lens)[0].is_empty()

    turned, report = examined(new.with_columns(label=1 - pl.col("label")), before, log, lens)
    assert turned.select("user_id", "item_id", "timestamp").equals(new.select("user_id", "item_id", "timestamp"))
    assert turned["alarm"].str.contains(r"AUC is 0\.[0-4]\d+ on them").all()
    assert report.records()[-1]["rows"] == new.height

    bot = pl.concat(
        [
            new,
            known.with_columns(
                user_id=pl.lit(99, pl.Int64), timestamp=log.last_second + pl.int_range(400, dtype=pl.Int64)
            ),
        ]
    )
    alarmed, _ = examined(bot.sort("timestamp"), before, log, lens)
    assert alarmed["user_id"].unique().to_list() == [99]
    assert alarmed.height == 400
    again = pl.concat([before, alarmed.drop("alarm")]).sort("timestamp", "user_id", "item_id")
    assert examined(bot.sort("timestamp"), again, log, lens)[0].is_empty()  # what is known is no news


def test_without_rows_to_measure_on_there_is_no_alarm(log, before, fit):
    lens, few = fit("din")[0], later(log, 40).with_columns(label=pl.lit(0, pl.Int8))
    untested = replace(log, samples=log.samples.filter(pl.col("split") != "test"))
    assert examined(few, before, log, lens)[0].is_empty()
    assert examined(few.clear(), before, log, lens)[0].is_empty()
    assert examined(later(log), before, untested, lens)[0].is_empty()
