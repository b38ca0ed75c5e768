"""New interactions that raise an alarm."""

import copy
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from cleaned_tables import SETTINGS
from parity_log import ITEMS, USERS
from reclora_kedro.datasets.newest_versions import WITHHELD
from reclora_kedro.history.config import HistoryConfig, NegativesConfig
from reclora_kedro.history.sequences import user_of_events
from reclora_kedro.history.splits import SplitConfig
from reclora_kedro.ingestion.cleaning_report import CleaningReport
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.update.config import ExaminationConfig
from reclora_kedro.update.examination import (
    REJECTED,
    Examination,
    Model,
    established_users,
    moved_items,
    without_known,
)

INGESTION = IngestionConfig(**SETTINGS)
HISTORY = HistoryConfig.model_construct(
    seed=0, min_history=3, shared_clock=True, ties="strict", rating_levels=None,
    negatives=NegativesConfig(kind="none", per_positive=1),
    split=SplitConfig(kind="global_time", train=0.7, validation=0.15),
)  # fmt: skip
FLOORS = {"user_rows": 100, "fall_rows": 50}  # of small logs
CONFIG = ExaminationConfig(user_share=0.5, fall=0.1).model_copy(update=FLOORS)
NOTHING = pl.DataFrame(schema=WITHHELD)


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


def later(log, rows=150, seed=1, users=USERS, source="journal"):
    """New interactions of the same tastes."""
    random = np.random.default_rng(seed)
    user, item = random.integers(users, size=rows), random.integers(ITEMS, size=rows)
    label = (user % 2 == item % 2).astype(np.int8)
    seconds = log.last_second + 1 + np.arange(rows)
    return pl.DataFrame(
        {"user_id": user, "item_id": item, "rating": label * 3.0 + 1, "timestamp": seconds, "label": label}
    ).with_columns(source=pl.lit(source))


def turned(rows):
    return rows.with_columns(label=1 - pl.col("label"))


def divided(new, before, log, lens, first=None, withheld=NOTHING, accept=False, reject=()):
    """The rows to take in, those to keep out, and the report."""
    current, report = Model(lens, log), CleaningReport()
    examination = Examination(before.lazy(), current, first or current, INGESTION, HISTORY, CONFIG, report)
    parts = examination.keep_out(new.sort("timestamp"), withheld, accept, reject)
    return *parts, report


def kept_out(*arguments, **named):
    return divided(*arguments, **named)[1:]


def test_labels_that_were_turned_around_and_the_rows_of_a_bot_are_quarantined(log, before, fit):
    lens, new = fit("din")[0], later(log)
    known = before.tail(400).with_columns(item_id=pl.int_range(400, dtype=pl.Int64) % ITEMS, source=pl.lit("journal"))
    assert kept_out(new, before, log, lens)[0].is_empty()

    false, report = kept_out(turned(new), before, log, lens)
    assert false.select("user_id", "item_id", "timestamp").equals(new.select("user_id", "item_id", "timestamp"))
    assert false["alarm"].str.contains(r"AUC is 0\.[0-4]\d+ on them").all()
    assert report.records()[-1]["rows"] == new.height

    bot = pl.concat(
        [
            new,
            known.with_columns(
                user_id=pl.lit(99, pl.Int64), timestamp=log.last_second + pl.int_range(400, dtype=pl.Int64)
            ),
        ]
    )
    alarmed, _ = kept_out(bot.sort("timestamp"), before, log, lens)
    assert alarmed["user_id"].unique().to_list() == [99]
    assert alarmed.height == 400
    again = pl.concat([before, alarmed.select(before.columns)]).sort("timestamp", "user_id", "item_id")
    assert kept_out(bot.sort("timestamp"), again, log, lens)[0].is_empty()  # what is known is no news


def test_without_rows_to_measure_on_there_is_no_alarm(log, before, fit):
    lens, few = fit("din")[0], later(log, 40).with_columns(label=pl.lit(0, pl.Int8))
    untested = replace(log, samples=log.samples.filter(pl.col("split") != "test"))
    assert kept_out(few, before, log, lens)[0].is_empty()
    assert kept_out(few.clear(), before, log, lens)[0].is_empty()
    assert kept_out(later(log), before, untested, lens)[0].is_empty()


def test_an_alarm_shuts_out_the_group_that_raised_it_which_is_decided_alone(log, before, fit):
    """By their source, by whether their users are new, and by the day of these; not the honest rows beside them."""
    lens, day = fit("din")[0], 86_400
    honest = later(log, 200)
    friends = later(log, 200, seed=2).with_columns(user_id=pl.col("user_id") + 300, timestamp=pl.col("timestamp") + day)
    fakes = later(log, 200, seed=3).with_columns(
        user_id=pl.col("user_id") + 600,
        timestamp=pl.col("timestamp") + 2 * day,
        label=pl.col("label").shuffle(seed=0),
    )
    table = turned(later(log, 200, seed=4, source="raw_new_interactions")).with_columns(
        timestamp=pl.col("timestamp") + 3 * day
    )
    new = pl.concat([honest, friends, fakes, table])
    out, _ = kept_out(new, before, log, lens)
    [burst, of_table] = out["group"].unique().sort()
    assert (burst[:18], of_table) == ("journal-new-users-", "table-known-users")
    assert sorted(out["user_id"].unique()) == sorted({*fakes["user_id"], *table["user_id"]})

    rejected, _ = kept_out(new, before, log, lens, accept=[of_table], reject=[burst])
    assert rejected["alarm"].unique().to_list() == [REJECTED]
    again, report = kept_out(new, before, log, lens, withheld=rejected, accept=True, reject=[burst])
    assert again.height == report.rows("new interactions that were rejected before") == fakes.height
    assert kept_out(new, before, log, lens, accept=True)[0].is_empty()
    with pytest.raises(ValueError, match=r"update\.accept names 'journal', but the groups .* table-known-users"):
        kept_out(new, before, log, lens, accept=["journal"])


def test_undecided_rows_of_a_table_that_is_gone_are_examined_again_but_not_those_that_left_the_journal(
    log, before, fit
):
    lens, day = fit("din")[0], 86_400
    table = turned(later(log, source="raw_new_interactions"))
    alarmed = pl.concat([table, turned(later(log, seed=2)).with_columns(timestamp=pl.col("timestamp") + day)])
    out, _ = kept_out(alarmed, before, log, lens)
    assert out.height == alarmed.height
    withheld = out.with_columns(pl.col("user_id", "item_id").cast(pl.String))
    honest = later(log, seed=3).with_columns(timestamp=pl.col("timestamp") + 2 * day)
    for new, added in ((honest, table.height), (pl.concat([honest, table]), 0), (honest.clear(), table.height)):
        taken, again, report = divided(new, before, log, lens, withheld=withheld)
        assert taken.height == new.filter(source="journal").height
        assert again.equals(out.filter(source="raw_new_interactions"))
        assert report.rows("quarantined interactions that are examined again") == added
    taken, again, _ = divided(honest, before, log, lens, withheld=withheld, accept=["table-known-users"])
    assert taken.equals(pl.concat([table, honest]))
    assert again.is_empty()


def test_the_mark_is_the_first_models_and_falls_with_no_later_one(log, before, fit, caplog):
    """A model that has learned false labels is as good on them as it ever was on its own test rows."""
    lens, new = fit("din")[0], turned(later(log))
    false = replace(log, samples=log.samples.with_columns(label=1 - pl.col("label")))
    poisoned = Model(copy.deepcopy(lens), false)
    for weight in poisoned.lens.parameters():
        weight.requires_grad_(False)
    head = [each for each in poisoned.lens.modules() if isinstance(each, torch.nn.Linear)][-1]
    head.weight.neg_(), head.bias.neg_()
    assert kept_out(new, before, false, poisoned.lens)[0].is_empty()
    kept_out(new, before, log, poisoned.lens, first=Model(lens, log))
    assert "Alarm: the AUC of the lens in use is 0." in caplog.text


def test_items_whose_users_are_mostly_new_are_named(before):
    ids = {"item_id": pl.Int64, "user_id": pl.Int64}
    fakes, crowd = (
        pl.DataFrame({"item_id": item, "user_id": range(500, 530)}, ids).with_columns(label=1) for item in (7, 8)
    )
    log = before.lazy().filter(pl.col("item_id") != 7).select("item_id", "user_id", label=1)
    log = pl.concat([log, pl.LazyFrame({"item_id": 8, "user_id": range(1000, 1040)}, ids).with_columns(label=1)])
    moved = moved_items(pl.concat([fakes, crowd]), log, pl.Series([*range(500), *range(1000, 1040)]), CONFIG)
    assert [(item, told[:34]) for item, told in moved.items()] == [(7, "30 of its 30 users are new; 1.00 o")]


@pytest.mark.parametrize("label", [0, 1])
def test_accounts_that_pull_an_item_by_a_few_each_night_are_named_and_honest_ones_are_not(log, before, label):
    """An account stays new for days and events, whatever earlier updates have taken in of it."""
    hour, items = 3600, before.group_by("item_id").len().sort("len")["item_id"]
    item = items[0 if label else -1]
    vote = {"item_id": item, "rating": 1.0 + 3 * label, "label": label}
    nights = [
        pl.DataFrame({"user_id": range(500 + 19 * night, 519 + 19 * night)})
        .with_columns(
            timestamp=log.last_second + night * 24 * hour, **{name: pl.lit(each) for name, each in vote.items()}
        )
        .select(pl.col(name).cast(kind) for name, kind in before.schema.items())
        for night in range(1, 6)
    ]
    grown, named = before, []
    for night in nights:
        named.append(moved_items(night, grown.lazy(), established_users(log, log), CONFIG))
        grown = pl.concat([grown, night])
    assert [list(each) for each in named] == [[], *[[item]] * 4]
    honest = later(log, 400, users=USERS).select(before.columns)
    assert moved_items(honest, before.lazy(), established_users(log, log), CONFIG) == {}


def test_an_account_is_new_until_it_has_been_there_for_days_with_some_events(log):
    day, events = 86_400, log.sequences
    users = pl.concat([log.users, log.users.tail(3).with_columns(user_id=pl.Series([501, 502, 503]))])
    ends = [8, 8, 3]
    seconds = [log.last_second + day * first + np.arange(count) for first, count in zip([0, 7, 0], ends, strict=True)]
    columns = {name: np.concatenate([values, values[: sum(ends)]]) for name, values in events.columns.items()}
    columns["timestamp"] = np.concatenate([events.timestamp, *seconds])
    offsets = np.concatenate([events.offsets, events.offsets[-1] + np.cumsum(ends)])
    grown = replace(log, users=users, sequences=type(events)(offsets=offsets, **columns))
    assert sorted({*established_users(grown, log)} - {*log.users["user_id"]}) == [501]


def test_ratings_that_change_in_one_direction_are_a_group_and_honest_corrections_are_taken(log, before, fit):
    lens, new = fit("din")[0], later(log)
    some = before.sample(400, seed=0).with_columns(source=pl.lit("journal"))
    to_likes = some.with_columns(rating=pl.lit(5.0), label=pl.lit(1, pl.Int8))
    out, _ = kept_out(pl.concat([new, to_likes]), before, log, lens)
    assert out["group"].unique().to_list() == ["journal-changed-ratings"]
    assert out["alarm"].str.contains(r"known ratings become likes, and 0 dislikes").all()
    assert {*out["timestamp"]} <= {*some["timestamp"]}
    corrected = some.head(60).with_columns(rating=5 - pl.col("rating"), label=1 - pl.col("label"))
    taken, out, _ = divided(pl.concat([new, corrected]), before, log, lens)
    assert (taken.height, out.height) == (new.height + corrected.height, 0)


def test_known_accounts_that_spoil_a_group_are_taken_out_of_it_and_decided_by_their_ids(log, before, fit):
    lens, new = fit("din")[0], later(log, 350)
    accounts = [3, 8, 11, 20]
    against_taste = (pl.col("item_id") % 2 != pl.col("user_id") % 2).cast(pl.Int8)
    false = [
        later(log, 90, seed=account).with_columns(user_id=pl.lit(account, pl.Int64)).with_columns(label=against_taste)
        for account in accounts
    ]
    spoiled = pl.concat([new.filter(~pl.col("user_id").is_in(accounts)), *false])
    assert not spoiled.select("user_id", "item_id", "timestamp").is_duplicated().any()
    taken, out, _ = divided(spoiled, before, log, lens)
    assert out["group"].unique().to_list() == ["journal-known-users-accounts"]
    assert {*out["user_id"]} <= {*accounts}
    assert taken.filter(~pl.col("user_id").is_in(accounts)).height == spoiled.height - 4 * 90
    account = out["user_id"][0]
    taken, out, _ = divided(spoiled, before, log, lens, accept=[f"account:{account}"], reject=["account:7"])
    assert (account in {*taken["user_id"]}, {*out.filter(alarm=REJECTED)["user_id"]}) == (True, {7})


def test_known_rows_of_the_first_new_second_are_not_new(before):
    new = before.tail(3)
    assert before["timestamp"].n_unique() == before.height
    assert without_known(new, before.lazy()).is_empty()
    changed = new.with_columns(rating=pl.col("rating") + 1)
    added = without_known(changed, before.lazy())
    assert added.drop("was").equals(changed)
    assert added["was"].equals(new["label"].alias("was"))
