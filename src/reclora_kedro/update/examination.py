"""Alarms of an update: new interactions that may be an attack or an accident, before any training on them.

They are judged group by group, so that an alarm for some shuts nobody else out: by their source, by whether their users
are new since the current model's log, and by bursts of new users, who came on one day or in one hour.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from sklearn.metrics import roc_auc_score

from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.log_builder import Growth, build_log
from reclora_kedro.ingestion.cleaning_report import CleaningReport
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.ingestion.keys import EVENT_KEY, MOMENT_KEY
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.growth import grow_lens
from reclora_kedro.lens.states import LensReader
from reclora_kedro.update.config import ExaminationConfig
from reclora_kedro.update.updates import MOMENT, RawEntities, append_events, append_items, append_users

logger = logging.getLogger(__name__)

REJECTED = "rejected"
"""The `alarm` of rows that update.reject has named; they stay out of all later updates."""
LENS = "lens"
"""What `update.accept` names to take a lens in spite of its alarm."""
BURSTS = ("%Y-%m-%d", "%Y-%m-%dT%H")
"""Units of time, in UTC, in which many new users may come."""
ONE_USER, NEW_USERS = "one-user", "new-users"


class Model(NamedTuple):
    """A lens, and the log that it was trained on."""

    lens: Lens
    log: InteractionLog


def examine_events(
    new: pl.DataFrame,
    log: pl.LazyFrame,
    current: Model,
    first: Model,
    ingestion: IngestionConfig,
    history: HistoryConfig,
    config: ExaminationConfig,
    report: CleaningReport,
) -> pl.DataFrame:
    """Return the new interactions that the log lacks, with their `group` and `alarm`, the reason or null.

    All rows of a user with more than `user_rows` of them, and more than `user_share`, raise one. So do those of a group
    on which the current model's AUC is lower by more than `fall` than the mark, measured on at least `fall_rows` each:
    such a fall reveals inverted or random labels, as tastes change slowly. The mark is the first model's AUC on the
    test rows of its own log, which nothing that came later can lower; the current model's fall there is an alarm, too.

    Args:
        new: canonical interactions with their `source`.
        first: the model with which the updates began.
    """
    added = without_known(new, log)
    users = added.group_by("user_id").len("rows")
    most = (pl.col("rows") > config.user_rows) & (pl.col("rows") > config.user_share * added.height)
    is_crowd = pl.col("user_id").is_in(users.filter(most)["user_id"].implode())
    is_known = pl.col("user_id").is_in(current.log.users["user_id"].implode())
    source = pl.col("source").str.replace("raw_new_interactions", "table")
    group = pl.format("{}-{}", source, pl.when(is_known).then(pl.lit("known-users")).otherwise(pl.lit(NEW_USERS)))
    added = added.with_columns(group=pl.when(is_crowd).then(pl.lit(ONE_USER)).otherwise(group))
    trusted = first.log.samples_in("test")
    mark = lens_auc(first, trusted, config.fall_rows)
    still = lens_auc(current, current.log.samples.join(trusted, on=MOMENT, how="semi"), config.fall_rows)
    if still < mark - config.fall:
        told = (
            f"the AUC of the lens in use is {still:.3f} on the test rows of the first log, and was {mark:.3f} at first"
        )
        report.record("the lens in use has lost what it knew", trusted.height, told)
        logger.warning(
            "Alarm: %s. An earlier update took in false rows: kedro run --pipelines rollback takes the models back. "
            "The tables keep these rows, and the next update learns from them again, unless it begins from "
            "earlier tables: see 'False rows that were taken in' in docs/guides/lifelong.md.",
            told,
        )
    aucs, least_auc = dict[str, float](), mark - config.fall
    if added.height >= config.fall_rows and not np.isnan(mark):
        scored = _scored(added, log, current, ingestion, history)
        aucs = _aucs(scored, added, config.fall_rows)
        for unit in BURSTS:
            for name in [name for name in added["group"].unique(maintain_order=True) if name.endswith(NEW_USERS)]:
                added = _divided(added, name, unit, scored, aucs, least_auc, config.fall_rows, config.new_users)
    told = "the current model's AUC is {:.3f} on them; the mark is {:.3f}"
    alarms = {name: told.format(auc, mark) for name, auc in aucs.items() if auc < least_auc}
    alarms[ONE_USER] = "one user has most of the new interactions"
    return added.with_columns(alarm=pl.col("group").replace_strict(alarms, default=None, return_dtype=pl.String))


def keep_out(
    new: pl.DataFrame,
    log: pl.LazyFrame,
    withheld: pl.DataFrame,
    current: Model,
    first: Model,
    ingestion: IngestionConfig,
    history: HistoryConfig,
    config: ExaminationConfig,
    report: CleaningReport,
    *,
    accept: bool | Sequence[str],
    reject: Literal[False] | Sequence[str],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Divide new interactions into those to take in, and those to keep out: quarantined or rejected, now or before.

    Args:
        withheld: interactions that were kept out before. Rejected ones stay out; quarantined ones are examined again,
            whether their table still has them or not, but those of the journal only as long as it has them.
        accept, reject: see `decided`.

    Raises:
        ValueError: `accept` or `reject` names no group of the new interactions.
    """
    typed = withheld.with_columns(pl.col(name).cast(type, strict=False) for name, type in new.schema.items())
    is_rejected = pl.col("alarm") == REJECTED
    rejected, undecided = typed.filter(is_rejected), typed.filter(~is_rejected & (pl.col("source") != "journal"))
    gone = undecided.select(new.columns).join(new, on=EVENT_KEY, how="anti")
    report.record("quarantined interactions that are examined again", gone.height)
    new = pl.concat([new, gone]).sort(MOMENT_KEY, maintain_order=True)
    unseen = new.join(rejected, on=EVENT_KEY, how="anti", maintain_order="left")
    report.record("new interactions that were rejected before", new.height - unseen.height)
    examined = examine_events(unseen, log, current, first, ingestion, history, config, report)
    out = decided(examined, accept, reject, rejected["group"].unique())
    groups = out.group_by("group", "alarm", maintain_order=True).agg(pl.len(), pl.col("user_id").n_unique())
    for group, alarm, rows, users in groups.iter_rows():
        report.record(f"new interactions of {users:,} users kept out: {group}", rows, alarm)
        if alarm != REJECTED:
            logger.warning(
                "%d new interactions of %d users, the group %s, are quarantined: %s. To take them in: kedro run "
                "--pipelines update --params update.accept=[%s]. To keep them out for good: update.reject=[%s].",
                *(rows, users, group, alarm, group, group),
            )
    taken = unseen.join(out, on=EVENT_KEY, how="anti", maintain_order="left")
    for item, users, new_users in lifted_items(taken, log, current.log.users["user_id"], config).iter_rows():
        told = f"{new_users} of its {users} users are new: somebody may have made them to lift it"
        report.record(f"interactions of the item {item}", taken.filter(item_id=item).height, told)
        logger.warning("Most users of the item %s are new, %d of %d.", item, new_users, users)
    return taken, pl.concat([rejected, out], how="diagonal")


def decided(
    examined: pl.DataFrame,
    accept: bool | Sequence[str],
    reject: Literal[False] | Sequence[str],
    rejected: Iterable[str],
) -> pl.DataFrame:
    """Return those of the examined interactions to keep out: alarmed ones that are not accepted, and rejected ones.

    Args:
        accept: groups to take in in spite of their alarm; True for all.
        reject: groups to keep out for good; False for none.
        rejected: groups that were rejected before.

    Raises:
        ValueError: there is no such group among the new interactions.
    """
    groups = examined["group"].unique().sort().to_list()
    taken, rejected_now = groups if accept is True else [*(accept or ())], [*(reject or ())]
    for parameter, named, further in (("accept", taken, (LENS,)), ("reject", rejected_now, rejected)):
        for name in named:
            if groups and name not in {*groups, *further}:
                raise ValueError(
                    f"update.{parameter} names {name!r}, but the groups of the new interactions are "
                    f"{', '.join(groups)}: name some of these."
                )
    is_rejected = pl.col("group").is_in(rejected_now)
    kept_out = examined.filter(is_rejected | (pl.col("alarm").is_not_null() & ~pl.col("group").is_in(taken)))
    return kept_out.with_columns(alarm=pl.when(is_rejected).then(pl.lit(REJECTED)).otherwise("alarm"))


def lifted_items(
    added: pl.DataFrame, log: pl.LazyFrame, known_users: pl.Series, config: ExaminationConfig
) -> pl.DataFrame:
    """Return items whose users are mostly new: item_id, users and new_users, the most lifted first.

    New accounts cost nothing, so that somebody may have made them to lift the item.
    """
    users = pl.concat([each.lazy().select("item_id", "user_id") for each in (log, added)]).unique()
    items = added.lazy().select("item_id").unique()
    is_new = ~pl.col("user_id").is_in(known_users.implode())
    counted = users.join(items, on="item_id").group_by("item_id").agg(users=pl.len(), new_users=is_new.sum())
    lifted = (pl.col("new_users") >= config.new_users) & (pl.col("new_users") > config.item_share * pl.col("users"))
    return counted.filter(lifted).sort("new_users", "item_id", descending=[True, False]).collect()


def without_known(new: pl.DataFrame, log: pl.LazyFrame) -> pl.DataFrame:
    later = log.filter(pl.col("timestamp") >= new["timestamp"].min()).collect() if new.height else new
    return new.join(later, on=[*EVENT_KEY, "rating", "label"], how="anti", nulls_equal=True, maintain_order="left")


def lens_auc(model: Model, samples: pl.DataFrame, least: int) -> float:
    """Return the AUC of a lens on samples of its log; NaN for too few samples, or one class."""
    if samples.height < least or samples["label"].n_unique() < 2:
        return np.nan
    lens = grow_lens(model.lens, model.log)
    return float(roc_auc_score(samples["label"], LensReader(lens, model.log).logits(samples)))


def _scored(
    added: pl.DataFrame, log: pl.LazyFrame, current: Model, ingestion: IngestionConfig, history: HistoryConfig
) -> pl.DataFrame:
    """Return the samples of new interactions with the current model's logit; vectors of new items are zero as yet."""
    before, nothing = current.log, RawEntities()
    interactions = append_events(log, added, ingestion, CleaningReport())
    items = append_items(before.items, interactions, nothing, ingestion.items, None, CleaningReport())
    users = append_users(before.users, interactions, nothing, ingestion.users, CleaningReport())
    end = interactions.select(pl.col("timestamp").max()).collect().item() + 1
    in_memory = LOCAL.model_copy(update={"rows_per_part": interactions.select(pl.len()).collect().item()})
    grown = build_log(interactions, items, users, history, in_memory, growth=Growth(before.sequences, end, end))
    assert isinstance(grown, InteractionLog)
    if (vectors := before.item_embeddings) is not None:
        padded = np.pad(vectors, ((0, items.height - len(vectors)), (0, 0)))
        grown = grown.with_embeddings(padded, before.encoder_widths)
    indices = users.select("user_id", user_index=pl.int_range(pl.len(), dtype=pl.Int32))
    moments = added.join(indices, on="user_id").select("user_id", *MOMENT).unique()
    samples = grown.samples.join(moments, on=MOMENT, maintain_order="left")
    logits = LensReader(grow_lens(current.lens, grown), grown).logits(samples)
    return samples.select("user_id", "timestamp", "label", logit=pl.Series(logits))


def _divided(
    added: pl.DataFrame,
    group: str,
    unit: str,
    scored: pl.DataFrame,
    aucs: dict[str, float],
    least_auc: float,
    least: int,
    least_users: int,
) -> pl.DataFrame:
    """Take bursts out of a group of new users: those who came in one unit of time, if the AUC on them is too low.

    A few users may be hard to predict, so that a burst has at least `least_users`.

    Args:
        aucs: by group, which are brought up to date.
    """
    came = pl.from_epoch(pl.col("timestamp").min().over("user_id"), time_unit="s").dt.strftime(unit)
    rows = added.with_columns(burst=pl.format("{}-{}", "group", came)).filter(group=group)
    many = rows.filter(pl.col("user_id").n_unique().over("burst") >= least_users)
    measured = _aucs(scored, many.with_columns(group="burst"), least)
    bursts = {name: auc for name, auc in measured.items() if auc < least_auc}
    if not bursts:
        return added
    aucs |= bursts
    aucs.pop(group, None)
    is_burst = rows["burst"].is_in([*bursts])
    aucs |= _aucs(scored, rows.filter(~is_burst), least)
    names = rows.select(*EVENT_KEY, new=pl.when(is_burst).then("burst").otherwise("group"))
    added = added.join(names, on=EVENT_KEY, how="left", maintain_order="left")
    return added.with_columns(group=pl.coalesce("new", "group")).drop("new")


def _aucs(scored: pl.DataFrame, rows: pl.DataFrame, least: int) -> dict[str, float]:
    """Return the AUC on each group that has enough samples, and both classes; negatives count with their event."""
    moment = ["user_id", "timestamp"]
    samples = scored.join(rows.unique(moment, keep="first", maintain_order=True).select(*moment, "group"), on=moment)
    return {
        str(group): float(roc_auc_score(own["label"], own["logit"]))
        for (group,), own in samples.partition_by("group", as_dict=True, maintain_order=True).items()
        if own.height >= least and own["label"].n_unique() == 2
    }
