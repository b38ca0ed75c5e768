"""Canonical tables that grow, and the splits of a grown log.

Rows of users and items never move: new ones follow in the order of their first events, and missing values of known ones
are filled. Events are those that ingestion would keep of all raw rows together.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from kedro_provenance.errors import Fault, MismatchError, Parameter, worded
from reclora_kedro.distributed.engine import LOCAL, EngineConfig
from reclora_kedro.errors import Table
from reclora_kedro.history.log import InteractionLog, LogInFiles
from reclora_kedro.history.sequences import user_of_events
from reclora_kedro.history.splits import SPLITS, SplitShares, uncut
from reclora_kedro.ingestion.cleaning import clean_interactions, distinct_rows
from reclora_kedro.ingestion.cleaning_report import CleaningReport
from reclora_kedro.ingestion.config import IngestionConfig, ItemColumns, ItemTextColumns, UserColumns
from reclora_kedro.ingestion.entities import listed_rows, title_of_untitled
from reclora_kedro.ingestion.events import EVENT_KEY
from reclora_kedro.ingestion.forgotten import NOBODY, ForgottenUsers
from reclora_kedro.ingestion.ids import IdError, canonical, canonical_as
from reclora_kedro.ingestion.plausible_times import SECONDS_PER_DAY, believed_seconds, day_of

if TYPE_CHECKING:
    from reclora_kedro.lens.base import Lens

logger = logging.getLogger(__name__)

MOMENT = ["user_index", "timestamp"]
JOURNAL_EVENTS = "journal events"  # the check of a report that counts all that a journal has
IN_THE_FUTURE = ("timestamp after ", "journal events in the future")
"""How the checks of a report begin that count such rows."""
SHARES = SplitShares(train=0.6, validation=0.2)  # of the new samples; the rest, the newest, compares the models
NEW_DAYS, NEW_EVENTS = 7, 5  # an account is new until it is older and has so many events
LATE_SHARE = 0.1  # of the new rows, above which a run warns of late ones


class RawEntities(NamedTuple):
    """Raw tables of items and users, as ingestion reads them; None for a missing table."""

    items: Any = None
    item_texts: Any = None
    users: Any = None


def described_items(items: pl.DataFrame, raw: RawEntities, config: IngestionConfig) -> pl.Series:
    """Return the ids, as texts, of the canonical items and of those that raw tables describe."""
    tables = ((raw.items, "item", config.items), (raw.item_texts, "item text", config.item_texts))
    listed = [_listed(table, kind, items, columns, CleaningReport()) for table, kind, columns in tables if columns]
    return pl.concat([each.select(pl.col("item_id").cast(pl.String)) for each in (items, *listed)])["item_id"]


def items_and_events(journal: pl.DataFrame) -> tuple[list[tuple[str, str | None]], pl.DataFrame]:
    """Return the items of a journal, see `entities.with_sent_items`, and its events."""
    is_event = pl.col("user_id") != ""
    return journal.filter(~is_event).select("item_id", "columns").rows(), journal.filter(is_event)


def clean_new_events(
    raw_interactions: Any,
    journal: pl.DataFrame,
    log: pl.LazyFrame,
    config: IngestionConfig,
    report: CleaningReport,
    engine: EngineConfig = LOCAL,
    forgotten: ForgottenUsers = NOBODY,
    items: pl.Series | None = None,
) -> pl.DataFrame:
    """Clean new interactions as ingestion does, but without k-core and starting histories; with their `source`.

    The `journal` has events of the service, see `items_and_events`, and the `log` the canonical interactions so
    far, which define the types of ids. If `items` has the ids, as texts, of those that tables describe, events of the
    service with others wait in the journal, unless the raw interactions have the item, since anybody can send ids.
    ValueError is raised for a raw table that ingestion would refuse, or without rows with ids of the log's types.
    """
    columns = config.interactions
    first, last = believed_seconds(config.plausible_times)
    of_clock = config.plausible_times.model_copy(update={"last_day": day_of(last)})  # whatever their newest row is
    unlimited = {"k_core": 0, "max_share_of_one_id": 1, "plausible_times": of_clock}
    sources = []
    if has_rows(raw_interactions):
        own = columns.model_copy(update={"click_history": None})
        sources.append(("raw_new_interactions", raw_interactions, own))
    report.record(JOURNAL_EVENTS, journal.height, "rows in")
    is_rated = pl.col("rating").is_between(config.rating_min, config.rating_max) if columns.rating else pl.lit(True)
    checks = {
        "of users who were forgotten": ~pl.col("user_id").is_in(forgotten.among(journal["user_id"]).implode()),
        "in the future": pl.col("timestamp") <= last,
        "without a plausible time or rating": (pl.col("timestamp") >= first) & is_rated,
    }
    for check, is_kept in checks.items():
        before, journal = journal.height, journal.filter(is_kept)
        report.record(f"journal events {check}", before - journal.height)
    if journal.height:
        marked = journal.with_columns(clicked=pl.col("rating").is_not_null())
        declared = columns.events.parsed(journal["columns"]) if columns.columns else pl.DataFrame()
        sources.append(("journal", marked.hstack(declared), columns.of_service()))
    types = columns.events.complete(log).collect_schema()
    events = [types.to_frame().with_columns(source=pl.lit("journal"))]
    for name, raw, own in sources:
        if name == "journal" and items is not None:
            known = pl.concat([items, *(each["item_id"].cast(pl.String) for each in events)])
            before, raw = raw.height, raw.filter(pl.col("item_id").is_in(known.implode()))
            waiting = before - raw.height
            report.record("journal events of unknown items", waiting, "they wait until a table has the item")
            if raw.is_empty():
                continue
        settings = config.model_copy(update={"interactions": own, **unlimited})
        own_report = CleaningReport()
        cleaned = clean_interactions(raw, settings, own_report, engine, forgotten, name).collect()
        report.add(own_report)
        fitting = _with_ids_of(log, cleaned, name).drop_nulls(["user_id", "item_id"])
        report.record("ids of another type than the log's", cleaned.height - fitting.height)
        if fitting.is_empty() and name != "journal":
            raise Fault(
                Table(name),
                f"has {cleaned.row(0)[:2]} in its first row, but none of {cleaned.height:,} rows has a user_id of type "
                f"{types['user_id']} and an item_id of type {types['item_id']}, like those of the log",
                advice="Give the ids as the log has them",
            )
        events.append(fitting.with_columns(source=pl.lit(name)))
    if future := sum(each["rows"] for each in report.records() if each["check"].startswith(IN_THE_FUTURE)):
        text = f"{future:,} new interactions are dropped, with times after {day_of(last)}: their sender has "
        setting = Parameter("ingestion.plausible_times.last_day")
        logger.warning(worded(f"{text}a wrong clock, or ", setting, " is too early."))
    return distinct_rows(pl.concat(events), config, report)


def _with_ids_of(log: pl.LazyFrame, cleaned: pl.DataFrame, table: str) -> pl.DataFrame:
    """Return new events with ids of the log's types, null where that cannot be; ValueError for other notations."""
    typed, types = list[pl.Series](), log.collect_schema()
    for name in ("user_id", "item_id"):
        try:
            if table == "journal" or cleaned.schema[name] == types[name]:
                typed.append(canonical(cleaned[name], types[name], strict=False))
            else:
                known = log.select(pl.col(name).unique()).collect(engine="streaming")[name]
                typed.append(canonical_as(cleaned[name], known))
        except IdError as error:
            raise ValueError(f"{name} of {table} has {error} Give the ids as the log has them.") from error
    return cleaned.with_columns(typed)


def append_events(
    log: pl.LazyFrame, new: pl.DataFrame, config: IngestionConfig, report: CleaningReport
) -> pl.LazyFrame:
    """Append new interactions: late events are inserted in time, repeated ones count once, as in ingestion.

    The columns are those of the schema, also where the log is from before one was declared. Only events from the first
    new one on are in memory.
    """
    report.record("new interactions", new.height, "rows in")
    schema = config.interactions.events
    log, new = schema.complete(log), new.select(*schema.table)
    if new.is_empty():
        return log
    first, last = new["timestamp"][0], log.select(pl.col("timestamp").max()).collect().item() or 0
    later = log.filter(pl.col("timestamp") >= first).collect()
    merged = distinct_rows(pl.concat([later, new]), config, CleaningReport())
    added = merged.join(later, on=EVENT_KEY, how="anti")
    changed = merged.join(later, on=later.columns, how="anti", nulls_equal=True).height - added.height
    report.record("new interactions that are known", new.height - added.height - changed)
    report.record("known interactions with another rating", changed, "the rating that ingestion keeps is taken")
    late = added.filter(pl.col("timestamp") < last).height
    report.record("late interactions", late, "kept in their place in time")
    if late > LATE_SHARE * added.height:
        logger.warning(
            "%d of %d new interactions are earlier than the newest previous one, of %s: either they are late, or the "
            "previous one has a wrong time.",
            *(late, added.height, day_of(last)),
        )
    report.record("interactions added", added.height, "rows kept")
    return pl.concat([log.filter(pl.col("timestamp") < first), merged.lazy()])


def append_items(
    former: pl.DataFrame,
    interactions: pl.LazyFrame,
    raw: RawEntities,
    columns: ItemColumns,
    text_columns: ItemTextColumns | None,
    report: CleaningReport,
) -> pl.DataFrame:
    """Append items of new interactions, then those only in a raw table; known ones get missing titles and fields."""
    described = [_listed(raw.items, "item", former, columns, report)]
    if text_columns is not None:
        described.append(_listed(raw.item_texts, "item text", former, text_columns, report))
    has_title = pl.col("title") != columns.missing_title
    former = former.with_columns(pl.when(has_title).then("title"))
    logged = _unknown_ids(interactions, former)
    items = _grown(former, pl.concat([logged, described[0].select("item_id")]), described, "item", report)
    untitled = items["title"][former.height :].null_count()
    report.record("new items without a title", untitled, f"kept as {columns.missing_title!r}")
    return items.with_columns(pl.col("title").fill_null(title_of_untitled(columns)))


def append_users(
    former: pl.DataFrame,
    interactions: pl.LazyFrame,
    raw: RawEntities,
    columns: UserColumns | None,
    report: CleaningReport,
) -> pl.DataFrame:
    """Append the users of new interactions; a known user gets missing values of fields."""
    described = [_listed(raw.users, "user", former, columns, report)] if columns is not None else []
    return _grown(former, _unknown_ids(interactions, former), described, "user", report)


def require_grown(log: InteractionLog, items: pl.DataFrame, users: pl.DataFrame) -> None:
    """Raise MismatchError for tables that do not begin with the items and users of a log."""
    for table, before, name in ((items, log.items, "items"), (users, log.users, "users")):
        key = table.columns[0]
        if not table[key].head(before.height).equals(before[key]):
            raise MismatchError(
                f"The {name} do not begin with the {before.height:,} {name} of the current model's log: they were "
                "made again since, and indices have changed. Make log and lens from these tables, and start the "
                "update with `--params champion=newest`.",
                "log",
                "lens",
            )


def has_grown(log: InteractionLog, before: InteractionLog) -> bool:
    """Whether a log has other events, items or users than an earlier one."""
    now, then = log.sequences, before.sequences
    columns = zip((now.offsets, *now.columns.values()), (then.offsets, *then.columns.values()), strict=True)
    same = log.items.equals(before.items) and log.users.equals(before.users)
    return not (same and all(np.array_equal(*pair) for pair in columns))


def held_out_rows(log: InteractionLog, before: InteractionLog, limit: int, seed: int) -> np.ndarray:
    """Draw training samples of a grown log that were test samples of the earlier log; return their row numbers.

    Neither the current model nor, if they are left out of its training, the challenger has learned from them. They are
    matched by user and second, since negatives are drawn anew.
    """
    tested = before.samples_in("test").select(MOMENT)
    rows = log.samples_in("train").join(tested, on=MOMENT, how="semi")["row"].to_numpy()
    return np.sort(np.random.default_rng(seed).permutation(rows)[:limit])


def with_labels_of(samples: pl.DataFrame, *earlier: InteractionLog) -> pl.DataFrame:
    """Return samples of a grown log with the labels that earlier logs, the last one first, gave the same rows.

    An event of the same user, item and second with another rating changes labels of the grown log, and nothing that
    comes later may change what judges it.
    """
    key = [*MOMENT, "item_index"]
    for log in earlier:
        own = log.samples.lazy().select(*key, own="label").join(samples.lazy().select(key), on=key, how="semi")
        samples = samples.join(own.unique(key).collect(), on=key, how="left", maintain_order="left")
        samples = samples.with_columns(label=pl.coalesce("own", "label")).drop("own")
    return samples


def trusted_rows(log: InteractionLog, first: InteractionLog, limit: int, seed: int) -> pl.DataFrame:
    """Draw samples of a grown log that were test samples of the first one, in their order, with their labels there."""
    rows = log.samples.join(first.samples_in("test").select(MOMENT).unique(), on=MOMENT, how="semi")
    return with_labels_of(rows.sample(min(limit, rows.height), seed=seed).sort("row"), first)


def known_moments(log: InteractionLog) -> pl.DataFrame:
    """Return the moments (user_index and timestamp) of a log's events and samples, each once.

    What else a grown log has is new: it arrived later, whatever its time.
    """
    events = {"user_index": user_of_events(log.sequences.offsets), "timestamp": log.sequences.timestamp}
    moments = [pl.DataFrame(events), log.samples.select(MOMENT)]
    return pl.concat(moments, how="vertical_relaxed").unique()


def are_aged(log: InteractionLog, users: np.ndarray) -> np.ndarray:
    """Return whether users, by index, have been there for some days, with some events; others are new accounts."""
    events = log.sequences
    starts, lengths = events.starts[users], (events.ends - events.starts)[users]
    first_seconds = events.timestamp[np.minimum(starts, max(len(events.timestamp) - 1, 0))]
    is_old = first_seconds <= log.last_second - NEW_DAYS * SECONDS_PER_DAY if log.shared_clock else True
    return (lengths >= NEW_EVENTS) & is_old


def new_split(interactions: pl.LazyFrame, users: pl.DataFrame, known: pl.DataFrame) -> tuple[int, int]:
    """Return the first seconds of validation and test: `SHARES` of the rows beside `known_moments`, in whole moments.

    Examples:
        >>> log = pl.LazyFrame({"user_id": [7] * 8, "timestamp": [1, 9, 3, 4, 5, 6, 6, 7], "label": [1] * 8})
        >>> users, known = pl.DataFrame({"user_id": [7]}), pl.DataFrame({"user_index": [0, 0], "timestamp": [1, 9]})
        >>> new_split(log, users, known)
        (6, 7)
    """
    indices = users.lazy().select("user_id", user_index=pl.int_range(pl.len()).cast(known.schema["user_index"]))
    labelled = interactions.drop_nulls("label").join(indices, on="user_id")
    new = labelled.join(known.lazy(), on=MOMENT, how="anti").select("timestamp").collect(engine="streaming")
    seconds = np.sort(new["timestamp"].to_numpy())
    if not len(seconds):
        end = interactions.select(pl.col("timestamp").max()).collect().item() + 1
        return end, end
    ends = np.append(seconds, seconds[-1] + 1)
    validation, test = (int(share * len(seconds)) for share in (SHARES.train, SHARES.train + SHARES.validation))
    return int(ends[uncut(validation, seconds)]), int(ends[uncut(test, seconds)])


def train_on_known(log: InteractionLog | LogInFiles, known: pl.DataFrame) -> InteractionLog | LogInFiles:
    """Return a grown log whose samples of known moments train, also where they are later than new ones."""
    known = known.cast({"user_index": pl.Int32}).with_columns(is_known=pl.lit(True))
    samples = log.samples.lazy().join(known.lazy(), on=MOMENT, how="left", maintain_order="left")
    split = pl.when("is_known").then(pl.lit("train", SPLITS)).otherwise("split")
    changed: dict[str, Any] = {"samples": samples.with_columns(split=split).drop("is_known")}
    if log.repeats is not None:
        changed["repeats"] = log.repeats.lazy().join(known.lazy(), on=MOMENT, how="anti")
    if isinstance(log, LogInFiles):
        return replace(log, **changed)
    return replace(log, **{name: table.collect() for name, table in changed.items()})


def is_new_to(lens: Lens, samples: pl.DataFrame, known: pl.DataFrame) -> np.ndarray:
    """Return which samples a model's lens has not learned from: any that its log lacks, and all later ones.

    The latter may be in its log, if a challenger that had learned from them was refused.
    """
    arrived = samples.join(known, on=MOMENT, how="anti")["row"].to_numpy()
    is_late = (samples["timestamp"] > lens.sizes.trained_until).to_numpy()
    return is_late | np.isin(np.arange(samples.height), arrived)


def has_rows(raw: Any) -> bool:
    if isinstance(raw, pl.LazyFrame):
        raw = raw.head(1).collect()
    return raw is not None and len(raw) > 0


def _listed(
    raw: Any,
    kind: str,
    former: pl.DataFrame,
    columns: ItemColumns | ItemTextColumns | UserColumns,
    report: CleaningReport,
) -> pl.DataFrame:
    """Return the rows of a raw table with ids of the known type; none without a table."""
    key = former.columns[0]
    if not has_rows(raw):
        return former.select(key).clear()
    listed = listed_rows(raw, kind, columns, report, former[key], "raw_new_")
    known = listed.join(former, on=key, how="semi").height
    report.record(f"{kind} rows of known ids", known, "read where nothing was known")
    return listed


def _unknown_ids(interactions: pl.LazyFrame, former: pl.DataFrame) -> pl.DataFrame:
    """Return the ids of a log that a table lacks, in the order of their first events."""
    ids = former.select(pl.first())
    unknown = interactions.select(ids.columns).join(ids.lazy(), on=ids.columns, how="anti", maintain_order="left")
    return unknown.unique(maintain_order=True).collect()


def _grown(
    former: pl.DataFrame, ids: pl.DataFrame, described: list[pl.DataFrame], kind: str, report: CleaningReport
) -> pl.DataFrame:
    """Return known rows, then one per other id in order of first occurrence; null if no table describes it."""
    key = former.columns[0]
    new = ids.unique(maintain_order=True).join(former, on=key, how="anti", maintain_order="left")
    rows = pl.concat([former, new], how="diagonal")
    for table in described:
        fields = [name for name in table.columns[1:] if name in rows.columns]
        joined = rows.join(table, on=key, how="left", maintain_order="left", suffix=" listed")
        rows = joined.with_columns(pl.coalesce(name, f"{name} listed") for name in fields).select(rows.columns)
    filled = rows.head(former.height).join(former, on=former.columns, how="anti", nulls_equal=True).height
    report.record(f"known {kind}s with values that were unknown", filled, "filled")
    report.record(f"new {kind}s", new.height, "rows added behind the known ones")
    return rows
