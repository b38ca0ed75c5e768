"""Tables that grow: indices never move, and the events are those that ingestion would leave of all raw rows."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleaned_tables import SETTINGS
from kedro_provenance.errors import MismatchError
from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.history.config import HistoryConfig, NegativesConfig
from reclora_kedro.history.splits import SplitConfig
from reclora_kedro.ingestion.cleaning import clean_interactions
from reclora_kedro.ingestion.cleaning_report import CleaningReport
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.ingestion.entities import describe_items, describe_users
from reclora_kedro.ingestion.forgotten import ForgottenUsers
from reclora_kedro.ingestion.schema import Interactions, Items, Users
from reclora_kedro.pipelines.update.nodes import build_grown_log
from reclora_kedro.update.updates import (
    RawEntities,
    append_events,
    append_items,
    append_users,
    clean_new_events,
    described_items,
    is_new_to,
    known_moments,
    new_split,
    require_grown,
    trusted_rows,
    with_labels_of,
)
from reference_log import reference_log

ITEM = {"item_id": "i", "title": "name", "missing_title": "Unknown title", "trailing_articles": [], "fields": []}
USER = {"user_id": "u", "fields": [{"name": "age", "column": "age"}]}
RATINGS = IngestionConfig(**SETTINGS | {"items": ITEM, "users": USER})
CLICKS = IngestionConfig(
    **SETTINGS | {"interactions": SETTINGS["interactions"] | {"rating": None, "clicked": "r"}, "items": ITEM}
)
HISTORY = HistoryConfig.model_construct(
    seed=0, min_history=0, shared_clock=True, ties="strict", rating_levels=None,
    negatives=NegativesConfig(kind="none", per_positive=1),
    split=SplitConfig(kind="global_time", train=0.8, validation=0.1),
)  # fmt: skip
YEAR = 365 * 86_400
NO_JOURNAL = pl.DataFrame(
    schema={"user_id": pl.String, "item_id": pl.String, "rating": pl.Float64, "timestamp": pl.Int64}
)


def raw_rows(rows, rating=lambda rating: rating):
    return pl.DataFrame(
        [(user, item, rating(stars), second) for user, item, stars, second in rows],
        schema={"u": pl.Int64, "i": pl.Int64, "r": pl.Float64, "t": pl.Int64},
        orient="row",
    )


def ingested(raw, config, raw_items=None, raw_users=None):
    """The canonical tables of ingestion."""
    report = CleaningReport()
    events = clean_interactions(raw, config, report)
    items = raw.select("i").unique().with_columns(name=pl.lit("A")) if raw_items is None else raw_items
    users = raw.select("u").unique().with_columns(age=pl.lit(30)) if raw_users is None else raw_users
    return (
        events.collect(),
        describe_items(items, events, config.items, report),
        describe_users(users, events, config.users, report),
    )


def updated(tables, config, raw=None, journal=NO_JOURNAL, report=None, **entities):
    """The canonical tables after an update."""
    events, items, users = tables
    report, entities = report or CleaningReport(), RawEntities(**entities)
    known = described_items(items, entities, config)
    new = clean_new_events(raw, journal, events.lazy(), config, report, items=known)
    events = append_events(events.lazy(), new, config, report)
    grown = (
        events.collect(),
        append_items(items, events, entities, config.items, None, report),
        append_users(users, events, entities, config.users, report),
    )
    for model, table in zip((Interactions, Items, Users), grown, strict=True):
        model.validate(table, lazy=True)
    return grown


def rows():
    row = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 6))
    return st.lists(row, min_size=1, max_size=12)


@settings(max_examples=6, deadline=None)
@given(st.lists(rows(), min_size=2, max_size=4), st.booleans())
def test_updates_leave_the_events_of_one_ingestion_and_move_no_index(batches, impressions):
    config = CLICKS if impressions else RATINGS
    rating = (lambda stars: float(stars > 3)) if impressions else (lambda stars: stars)
    batches = [raw_rows(batch, rating) for batch in batches]
    tables = ingested(batches[0], config)
    for batch in batches[1:]:
        before, tables = tables, updated(tables, config, batch)
        for old, new in zip(before[1:], tables[1:], strict=True):
            assert new.head(old.height).equals(old)
        for again in (updated(tables, config, batch), updated(tables, config, batch.clear()), updated(tables, config)):
            assert all(one.equals(two) for one, two in zip(tables, again, strict=True))
    together = ingested(pl.concat(batches), config)
    assert tables[0].equals(together[0])
    for grown, whole in zip(tables[1:], together[1:], strict=True):
        assert set(grown.to_series()) == set(whole.to_series())


BEFORE = ingested(raw_rows([(2, 7, 5, 100), (1, 8, 2, 200)]), RATINGS)


def test_late_repeated_and_changed_events_are_counted_and_new_ids_follow_as_they_appear():
    report = CleaningReport()
    new = raw_rows([(9, 3, 4, 150), (2, 7, 3, 100), (1, 8, 4, 200), (4, 8, 1, 300)])
    events, items, users = updated(
        BEFORE,
        RATINGS,
        new,
        report=report,
        items=pl.DataFrame({"i": [7, 5, 3], "name": ["Other", "Five", None]}),
        users=pl.DataFrame({"u": [4, 77], "age": [40, 7]}),
    )
    assert events.select("user_id", "item_id", "rating").rows() == [(2, 7, 5), (9, 3, 4), (1, 8, 4), (4, 8, 1)]
    assert items.rows() == [(7, "A"), (8, "A"), (3, "Unknown title"), (5, "Five")]
    assert users.rows() == [(1, "30"), (2, "30"), (9, None), (4, "40")]
    counted = {row["check"]: row["rows"] for row in report.records()}
    assert counted["new interactions"] == 4
    assert counted["new interactions that are known"] == 1
    assert counted["known interactions with another rating"] == 1
    assert counted["late interactions"] == 1
    assert counted["interactions added"] == 2
    assert (counted["new items"], counted["new users"], counted["item rows of known ids"]) == (2, 2, 1)


def test_what_was_unknown_is_filled_and_what_was_known_stays():
    raw = raw_rows([(2, 7, 5, 100), (1, 8, 2, 200)])
    named, aged = pl.DataFrame({"i": [8], "name": ["Eight"]}), pl.DataFrame({"u": [1], "age": [30]})
    before, report = ingested(raw, RATINGS, named, aged), CleaningReport()
    assert before[1].rows() == [(7, "Unknown title"), (8, "Eight")]
    news = {
        "items": pl.DataFrame({"i": [8, 7], "name": ["8", "Seven"]}),
        "users": pl.DataFrame({"u": [1, 2], "age": [9, 9]}),
    }
    after = updated(before, RATINGS, report=report, **news)
    assert after[1].rows() == [(7, "Seven"), (8, "Eight")]
    assert after[2].rows() == [(1, "30"), (2, "9")]
    counted = {row["check"]: (row["rows"], row["rule"]) for row in report.records()}
    for kind in ("item", "user"):
        assert counted[f"known {kind}s with values that were unknown"] == (1, "filled")
    assert all(one.equals(two) for one, two in zip(after, updated(after, RATINGS, **news), strict=True))


def test_the_journal_counts_like_other_rows_and_gives_ids_as_text():
    journal = pl.DataFrame(
        [("2", "8", 5.0, 300), ("x", "8", 5.0, 301), ("12", "90", None, 302)], schema=NO_JOURNAL.schema, orient="row"
    )
    report = CleaningReport()
    events, items, users = updated(BEFORE, RATINGS, journal=journal, report=report)
    assert events.row(-1) == (2, 8, 5.0, 300, 1)
    assert (items.height, users.height) == (2, 2)
    dropped = "ids of another type than the log's", "journal events without a plausible time or rating"
    assert [report.rows(check) for check in dropped] == [1, 1]
    assert updated(BEFORE, RATINGS, journal=journal.tail(1))[0].equals(BEFORE[0])
    clicked, ninety = ingested(raw_rows([(1, 1, 1, 1), (2, 1, 0, 1)]), CLICKS), journal.filter(user_id="12")
    assert updated(clicked, CLICKS, journal=ninety, report=report)[1].height == 1  # 90 waits until a table has it
    assert report.records()[-1]["rows"] == 0
    table = pl.DataFrame({"i": [90], "name": ["Ninety"]})
    clicks = updated(clicked, CLICKS, journal=ninety, items=table)
    assert (clicks[0].row(-1), clicks[1].height) == ((12, 90, None, 302, 0), 2)
    in_raw = updated(clicked, CLICKS, raw_rows([(1, 90, 1, 400)]), ninety)
    assert in_raw[0]["user_id"].to_list() == [1, 2, 12, 1]
    assert updated(BEFORE, RATINGS, journal=journal.filter(user_id="x"))[0].equals(BEFORE[0])


def test_items_with_ids_of_another_type_are_counted():
    report = CleaningReport()
    items = pl.DataFrame({"i": ["9", "nine"], "name": ["Nine", "Lost"]})
    updated(BEFORE, RATINGS, raw_rows([(1, 9, 4, 400)]), items=items, report=report)
    assert report.rows("item rows with ids of another type than the log's") == 1


def test_whoever_was_forgotten_comes_in_by_no_table():
    forgotten = ForgottenUsers().with_users([9, "x"])
    raw, report = raw_rows([(9, 7, 5, 300), (1, 7, 5, 301)]), CleaningReport()
    assert clean_interactions(raw, RATINGS, report, forgotten=forgotten).collect()["user_id"].to_list() == [1]
    assert report.rows("rows of users who were forgotten") == 1
    journal = pl.DataFrame([("9", "8", 5.0, 302), ("2", "8", 5.0, 303)], schema=NO_JOURNAL.schema, orient="row")
    new = clean_new_events(raw, journal, BEFORE[0].lazy(), RATINGS, report, forgotten=forgotten)
    assert new["user_id"].to_list() == [1, 2]
    assert report.rows("journal events of users who were forgotten") == 1
    again = forgotten.without_users([9])
    assert clean_interactions(raw, RATINGS, report, forgotten=again).collect().height == 2
    with pytest.raises(ValueError, match=r"forget.users\[1\] is not among the 2 forgotten ids"):
        forgotten.without_users(["x", 77])


@pytest.mark.parametrize("kind", [pl.String, pl.Categorical, pl.Enum(["1", "9", " 9", "018", "+9", "9.0"]), pl.Object])
def test_whoever_was_forgotten_comes_in_by_no_way_of_writing(kind):
    forgotten = ForgottenUsers().with_users([9, "18"])
    raw = raw_rows([(9, 7, 5, 300), (1, 7, 5, 301)]).drop("u")
    fitting = raw.with_columns(u=pl.Series([" 9", "1"], dtype=kind))
    new = clean_new_events(fitting, NO_JOURNAL, BEFORE[0].lazy(), RATINGS, CleaningReport(), forgotten=forgotten)
    assert new["user_id"].to_list() == [1]
    for written in ("018", "+9", "9.0"):
        unfit = raw.with_columns(u=pl.Series([written, "1"], dtype=kind))
        with pytest.raises(ValueError, match=r"user_id of raw_new_interactions has '.*': ids of .* write (9|18)"):
            clean_new_events(unfit, NO_JOURNAL, BEFORE[0].lazy(), RATINGS, CleaningReport(), forgotten=forgotten)
    journal = pl.DataFrame([("018", "8", 5.0, 302), ("+9", "8", 5.0, 303)], schema=NO_JOURNAL.schema, orient="row")
    new = clean_new_events(None, journal, BEFORE[0].lazy(), RATINGS, CleaningReport(), forgotten=forgotten)
    assert new.is_empty()
    padded = BEFORE[0].with_columns(user_id=pl.Series(["018", "2"]))
    with pytest.raises(ValueError, match=r"has 9, 1: ids of this log are texts such as '018', so load these as text"):
        clean_new_events(
            raw_rows([(9, 7, 5, 300), (1, 7, 5, 301)]), NO_JOURNAL, padded.lazy(), RATINGS, CleaningReport()
        )


def test_rows_that_ingestion_refuses_are_refused():
    with pytest.raises(ValueError, match=r"raw_new_interactions has .* none of 1 rows has a user_id of type Int64"):
        updated(BEFORE, RATINGS, raw_rows([(1, 1, 4, 400)]).with_columns(u=pl.lit("x")))
    with pytest.raises(ValueError, match=r"raw_new_interactions has no interaction left after cleaning"):
        updated(BEFORE, RATINGS, raw_rows([(1, 1, 9, 400)]))
    with pytest.raises(ValueError, match="raw_new_items has no column 'name'"):
        updated(BEFORE, RATINGS, raw_rows([(1, 1, 4, 400)]), items=pl.DataFrame({"i": [1], "title": ["A"]}))


def test_a_warning_of_rows_without_a_time_names_the_new_table_and_counts_its_rows_alone(caplog):
    raw = raw_rows([(1, 7, 4, 300 + second) for second in range(11)])
    raw = raw.with_columns(t=pl.when(pl.col("t") > 300).then("t"))
    journal = pl.DataFrame([("2", "8", 5.0, 302)], schema=NO_JOURNAL.schema, orient="row")
    settings, report = RATINGS.model_copy(update={"max_missing": 0.5}), CleaningReport()
    clean_new_events(raw, journal, BEFORE[0].lazy(), settings, report)
    assert [each.getMessage() for each in caplog.records if "no timestamp" in each.getMessage()] == [
        "raw_new_interactions has no timestamp in 't' in 1 of 11 rows, which are dropped."
    ]
    assert report.rows("missing timestamp") == 1


def test_labels_that_judge_an_update_are_those_of_the_log_that_has_them_first():
    columns = {"user_id": [1, 1, 2, 2], "item_id": [1, 2, 1, 2], "timestamp": [1, 2, 3, 4]}
    rows = pl.DataFrame(columns | {"rating": [1.0, 5.0, 1.0, 5.0], "label": [0, 1, 0, 1]})
    first = reference_log(rows, *tables_of(rows), min_history=0, split=HISTORY.split)
    changed = rows.with_columns(rating=pl.lit(5.0), label=pl.lit(1))
    grown = reference_log(changed, *tables_of(changed), min_history=0, split=HISTORY.split)
    assert trusted_rows(grown, first, 9, 0)["label"].to_list() == first.samples_in("test")["label"].to_list()
    assert with_labels_of(grown.samples, first).equals(grown.samples.with_columns(label=first.samples["label"]))


def tables_of(rows):
    items = rows.select("item_id", title=pl.col("item_id").cast(pl.String)).unique().sort("item_id")
    return items, rows.select("user_id").unique().sort("user_id")


def test_new_samples_are_split_by_time_and_moments_stay_whole():
    seconds = np.repeat(np.arange(1, 101), 3)
    log, users = pl.LazyFrame({"user_id": 7, "timestamp": seconds, "label": 1}), pl.DataFrame({"user_id": [7]})
    known = pl.DataFrame({"user_index": 0, "timestamp": [*range(1, 51), 100 + YEAR]})
    assert new_split(log, users, known) == (81, 91)


def test_what_is_new_is_told_by_its_arrival_after_a_row_of_the_far_future(caplog):
    """Which ended all learning: nothing was later than it."""
    begin, random = 5 * 10**8, np.random.default_rng(0)

    def rows_of(items):
        return [(user, item, 1 + 4 * random.integers(2), begin + item) for user in range(4) for item in items]

    before = ingested(raw_rows([*rows_of(range(40)), (1, 90, 5, begin + YEAR)]), RATINGS)
    log = reference_log(*before, split=HISTORY.split)
    new = rows_of(range(40, 80))
    interactions, *entities = updated(before, RATINGS, raw_rows(new))
    grown, _ = build_grown_log(interactions.lazy(), *entities, log, HISTORY, RATINGS, LOCAL)
    assert "160 of 160 new interactions are earlier than the newest previous one, of 1986-11-05" in caplog.text
    assert [grown.samples_in(split).height for split in ("validation", "test")] == [32, 32]
    assert grown.samples.filter(timestamp=begin + YEAR)["split"].to_list() == ["train"]
    lens = SimpleNamespace(sizes=SimpleNamespace(trained_until=begin + YEAR))
    assert is_new_to(lens, grown.samples, known_moments(log)).sum() == len(new)


def test_tables_that_were_made_anew_are_refused():
    class Log:
        items, users = BEFORE[1], BEFORE[2]

    require_grown(Log, *updated(BEFORE, RATINGS, raw_rows([(9, 3, 4, 150)]))[1:])
    with pytest.raises(MismatchError, match="The items do not begin with the 2 items"):
        require_grown(Log, Log.items.reverse(), Log.users)
