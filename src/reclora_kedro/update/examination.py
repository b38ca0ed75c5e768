"""Alarms of an update: new interactions that may be an attack or an accident, before any training on them.

They are judged group by group, so that an alarm for some shuts nobody else out: by their source, by whether their users
are new, by bursts of new users, who came on one day or in one hour, and by accounts, if few of them spoil a group.
Other ratings of known events are a group of their own.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
from sklearn.metrics import roc_auc_score

from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.log_builder import Growth, build_log
from reclora_kedro.ingestion.cleaning_report import CleaningReport
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.ingestion.events import EVENT_KEY, MOMENT_KEY
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.growth import grow_lens
from reclora_kedro.lens.states import LensReader
from reclora_kedro.update import updates
from reclora_kedro.update.config import ExaminationConfig

logger = logging.getLogger(__name__)

REJECTED = "rejected"  # the `alarm` of rows that update.reject has named; they stay out of all later updates
LENS = "lens"  # what `update.accept` names to take a lens in spite of its alarm
BURSTS = ("%Y-%m-%d", "%Y-%m-%dT%H")  # units of time, in UTC, in which many new users may come
ONE_USER, NEW_USERS, CHANGED, ACCOUNTS = "one-user", "new-users", "changed-ratings", "-accounts"
ACCOUNT = "account:"  # what `update.accept` and `update.reject` name an account by, before its id


class Model(NamedTuple):
    """A lens, and the log that it was trained on; None where lists need none, which leaves out what its AUC tells."""

    lens: Lens | None
    log: InteractionLog


@dataclass(frozen=True)
class Examination:
    """What new interactions are compared with, and the report of what was found."""

    log: pl.LazyFrame  # the canonical interactions so far
    current: Model
    first: Model  # with which the updates began
    ingestion: IngestionConfig
    history: HistoryConfig
    config: ExaminationConfig
    report: CleaningReport

    def keep_out(
        self,
        new: pl.DataFrame,
        withheld: pl.DataFrame,
        accept: bool | Sequence[str],
        reject: Literal[False] | Sequence[str],
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Divide new interactions into those to take in, and those to keep out: quarantined or rejected, now or before.

        All are canonical, with their `source`. Of those `withheld` before, rejected ones stay out; quarantined ones are
        examined again, whether their table still has them or not, but those of the journal only as long as it has them.
        For the others, and for what is raised, see `decided`.
        """
        report, config = self.report, self.config
        whole = self.ingestion.interactions.events.complete(withheld)
        typed = whole.with_columns(pl.col(name).cast(type, strict=False) for name, type in new.schema.items())
        is_rejected = pl.col("alarm") == REJECTED
        rejected, undecided = typed.filter(is_rejected), typed.filter(~is_rejected & (pl.col("source") != "journal"))
        gone = undecided.select(new.columns).join(new, on=EVENT_KEY, how="anti")
        report.record("quarantined interactions that are examined again", gone.height)
        new = pl.concat([new, gone]).sort(MOMENT_KEY, maintain_order=True)
        unseen = new.join(rejected, on=EVENT_KEY, how="anti", maintain_order="left")
        report.record("new interactions that were rejected before", new.height - unseen.height)
        out = decided(self.examine(unseen), accept, reject, rejected["group"].unique())
        groups = out.group_by("group", "alarm", maintain_order=True).agg(pl.len(), pl.col("user_id").n_unique())
        for group, alarm, rows, users in groups.iter_rows():
            report.record(f"new interactions of {users:,} users kept out: {group}", rows, alarm)
            if alarm != REJECTED:
                logger.warning(
                    "%d new interactions of %d users, the group %s, are quarantined: %s. To accept them: kedro run "
                    "--pipelines update --params update.accept=[%s]. To keep them out for good: update.reject=[%s].",
                    *(rows, users, group, alarm, group, group),
                )
        accepted = unseen.join(out, on=EVENT_KEY, how="anti", maintain_order="left")
        established = established_users(self.current.log, self.first.log)
        for item, message in moved_items(accepted, self.log, established, config).items():
            report.record(f"interactions of the item {item}", accepted.filter(item_id=item).height, message)
            logger.warning("New accounts may move the item %s: %s.", item, message)
        return accepted, pl.concat([rejected, out], how="diagonal")

    def examine(self, new: pl.DataFrame) -> pl.DataFrame:
        """Return the new interactions that the log lacks, with their `group` and `alarm`, the reason or null.

        All rows of a user with more than `user_rows` of them, and more than `user_share`, raise one. So do those of a
        group on which the current model's AUC is lower by more than `fall` than the mark, measured on at least
        `fall_rows` each: such a fall reveals inverted or random labels, as tastes change slowly. If few accounts are to
        blame, they are a group, and the rest has no alarm. The mark is the first model's AUC on the test rows of its
        own log, which nothing that came later can lower; the current model's fall there, with the labels of that log,
        is an alarm, too. Another alarm is that known ratings turn into likes, or into dislikes.
        """
        config = self.config
        added = self._grouped(without_known(new, self.ingestion.interactions.events.complete(self.log)))
        turned = added.group_by("group").agg(
            to_likes=(pl.col("was") < pl.col("label")).sum(), to_dislikes=(pl.col("was") > pl.col("label")).sum()
        )
        added, mark = added.drop("was"), self._mark()
        aucs, least_auc = dict[str, float](), mark - config.fall
        if added.height >= config.fall_rows and not np.isnan(mark):
            scored = self._scored(added)
            aucs = _aucs(scored, added, config.fall_rows)
            for unit in BURSTS:
                for name in [name for name in added["group"].unique(maintain_order=True) if name.endswith(NEW_USERS)]:
                    added = self._divided(added, name, unit, scored, aucs, least_auc)
            for name in [name for name, auc in aucs.items() if auc < least_auc]:
                added = self._without_accounts(added, name, scored, aucs, least_auc)
        message = "the current model's AUC is {:.3f} {} them; the mark is {:.3f}"
        alarms = {
            name: message.format(auc, "with" if name.endswith(ACCOUNTS) else "on", mark)
            for name, auc in aucs.items()
            if auc < least_auc
        }
        alarms[ONE_USER] = "one user has most of the new interactions"
        for name, likes, dislikes in turned.iter_rows():
            if likes + dislikes >= config.turned and max(likes, dislikes) > config.turned_share * (likes + dislikes):
                alarms[name] = f"{likes:,} known ratings become likes, and {dislikes:,} dislikes"
        return added.with_columns(alarm=pl.col("group").replace_strict(alarms, default=None, return_dtype=pl.String))

    def _grouped(self, added: pl.DataFrame) -> pl.DataFrame:
        """Return interactions, with the label that each `was`, in groups by source, by users, and by what changed."""
        config, users = self.config, added.group_by("user_id").len("rows")
        most = (pl.col("rows") > config.user_rows) & (pl.col("rows") > config.user_share * added.height)
        is_crowd = pl.col("user_id").is_in(users.filter(most)["user_id"].implode())
        established = established_users(self.current.log, self.first.log)
        is_known = pl.col("user_id").is_in(established.implode())
        kind = pl.when(is_known).then(pl.lit("known-users")).otherwise(pl.lit(NEW_USERS))
        kind = pl.when(pl.col("was").is_not_null()).then(pl.lit(CHANGED)).otherwise(kind)
        source = pl.col("source").str.replace("raw_new_interactions", "table")
        group = pl.when(is_crowd).then(pl.lit(ONE_USER)).otherwise(pl.format("{}-{}", source, kind))
        return added.with_columns(group=group)

    def _mark(self) -> float:
        """Return the first model's AUC on the test rows of its log; warn if the current model's is lower there."""
        config, first = self.config, self.first
        trusted = first.log.samples_in("test")
        mark = lens_auc(first, trusted, config.fall_rows)
        rows_in_use = self.current.log.samples.join(trusted, on=updates.MOMENT, how="semi")
        still = lens_auc(self.current, updates.with_labels_of(rows_in_use, first.log), config.fall_rows)
        if still < mark - config.fall:
            then = f"on the test rows of the first log, and was {mark:.3f} at first"
            message = f"the AUC of the lens in use is {still:.3f} {then}"
            self.report.record("the lens in use has lost what it knew", trusted.height, message)
            logger.warning(
                "Alarm: %s. An earlier update may have accepted false rows: kedro run --pipelines rollback restores "
                "the models. The tables keep these rows, and the next update learns from them again unless it starts "
                "from earlier tables: see 'False rows that were taken in' in docs/guides/lifelong.md.",
                message,
            )
        return mark

    def _scored(self, added: pl.DataFrame) -> pl.DataFrame:
        """Return the samples of new interactions with the current model's logit; vectors of new items are zero."""
        before, nothing, ingestion = self.current.log, updates.RawEntities(), self.ingestion
        interactions = updates.append_events(self.log, added, ingestion, CleaningReport())
        items = updates.append_items(before.items, interactions, nothing, ingestion.items, None, CleaningReport())
        users = updates.append_users(before.users, interactions, nothing, ingestion.users, CleaningReport())
        end = interactions.select(pl.col("timestamp").max()).collect().item() + 1
        in_memory = LOCAL.model_copy(update={"rows_per_part": interactions.select(pl.len()).collect().item()})
        growth, schema = Growth(before.sequences, end, end), ingestion.interactions.events
        grown = build_log(interactions, items, users, self.history, in_memory, growth=growth, schema=schema)
        assert isinstance(grown, InteractionLog)
        if (vectors := before.item_embeddings) is not None:
            padded = np.pad(vectors, ((0, items.height - len(vectors)), (0, 0)))
            grown = grown.with_embeddings(padded, before.encoder_widths)
        indices = users.select("user_id", user_index=pl.int_range(pl.len(), dtype=pl.Int32))
        moments = added.join(indices, on="user_id").select("user_id", *updates.MOMENT).unique()
        samples = grown.samples.join(moments, on=updates.MOMENT, maintain_order="left")
        assert self.current.lens is not None  # which has the mark that they are compared with
        logits = LensReader(grow_lens(self.current.lens, grown), grown).logits(samples)
        return samples.select("user_id", "timestamp", "label", logit=pl.Series(logits))

    def _divided(
        self,
        added: pl.DataFrame,
        group: str,
        unit: str,
        scored: pl.DataFrame,
        aucs: dict[str, float],
        least_auc: float,
    ) -> pl.DataFrame:
        """Take bursts out of a group of new users: those who came in one unit of time, if the AUC on them is too low.

        A few users may be hard to predict, so that a burst has at least `new_users`. `aucs` are brought up to date.
        """
        least = self.config.fall_rows
        came = pl.from_epoch(pl.col("timestamp").min().over("user_id"), time_unit="s").dt.strftime(unit)
        rows = added.with_columns(burst=pl.format("{}-{}", "group", came)).filter(group=group)
        many = rows.filter(pl.col("user_id").n_unique().over("burst") >= self.config.new_users)
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

    def _without_accounts(
        self, added: pl.DataFrame, group: str, scored: pl.DataFrame, aucs: dict[str, float], least_auc: float
    ) -> pl.DataFrame:
        """Take the accounts out of a group that lower the AUC most, until the rest has no alarm; none if that is many.

        `aucs` are brought up to date.
        """
        rows = added.filter(group=group)
        moments = rows.select("user_id", "timestamp").unique()
        own = scored.join(moments, on=["user_id", "timestamp"], maintain_order="left")
        blamed, limit = list[Any](), self.config.accounts_share * own["user_id"].n_unique()
        while len(blamed) < limit:
            left = own.filter(~pl.col("user_id").is_in(blamed))
            auc = _aucs(left, rows, self.config.fall_rows).get(group, 0.0)
            if auc >= least_auc:
                others = f"{group}{ACCOUNTS}"
                aucs |= {others: aucs[group], group: auc}
                is_blamed = (pl.col("group") == group) & pl.col("user_id").is_in(blamed)
                return added.with_columns(group=pl.when(is_blamed).then(pl.lit(others)).otherwise("group"))
            users = _shares_won(left).with_columns(lost=pl.col("rows") * (least_auc - pl.col("won")))
            blamed.append(users.sort("lost", maintain_order=True)["user_id"][-1])
        return added


def decided(
    examined: pl.DataFrame,
    accept: bool | Sequence[str],
    reject: Literal[False] | Sequence[str],
    rejected: Iterable[str],
) -> pl.DataFrame:
    """Return those of the examined interactions to keep out: alarmed ones that are not accepted, and rejected ones.

    Both name groups, and accounts by ``account:`` and the id: `accept` those to take in in spite of their alarm, True
    for all, and `reject` those to keep out for good. Another name, unless it was `rejected` before, raises ValueError.
    """
    groups = examined["group"].unique().sort().to_list()
    accepted, rejected_now = groups if accept is True else [*(accept or ())], [*(reject or ())]
    accounts = ACCOUNT + examined["user_id"].cast(pl.String)
    for parameter, named, further in (("accept", accepted, (LENS,)), ("reject", rejected_now, rejected)):
        for name in named:
            if groups and name not in {*groups, *further} and not (accounts == name).any():
                raise ValueError(
                    f"update.{parameter} names {name!r}, but the groups of the new interactions are "
                    f"{', '.join(groups)}: name some of these."
                )
    is_rejected, is_taken = (
        pl.col("group").is_in(names) | (ACCOUNT + pl.col("user_id").cast(pl.String)).is_in(names)
        for names in (rejected_now, accepted)
    )
    kept_out = examined.filter(is_rejected | (pl.col("alarm").is_not_null() & ~is_taken))
    return kept_out.with_columns(alarm=pl.when(is_rejected).then(pl.lit(REJECTED)).otherwise("alarm"))


def established_users(log: InteractionLog, first: InteractionLog) -> pl.Series:
    """Return the ids of users of the first log, and of those that have been there for some days, with some events.

    Others are new, also if an earlier update has taken in events of theirs: what they do is counted over these days.
    """
    aged = log.users["user_id"].filter(pl.Series(updates.are_aged(log, np.arange(log.users.height))))
    return pl.concat([first.users["user_id"], aged]).unique()


def moved_items(
    added: pl.DataFrame, log: pl.LazyFrame, established: pl.Series, config: ExaminationConfig
) -> dict[object, str]:
    """Return items that new accounts may have been made to lift or to sink, and how they would stand without them.

    New accounts cost nothing. Those of earlier updates count as long as they are new.
    """
    columns = ["item_id", "user_id", "label"]
    votes = pl.concat([each.lazy().select(columns) for each in (log, added)], how="vertical_relaxed")
    votes = votes.drop_nulls("label").with_columns(is_new=~pl.col("user_id").is_in(established.implode()))
    is_like, is_old = pl.col("label") == 1, ~pl.col("is_new")
    items = votes.group_by("item_id").agg(
        users=pl.col("user_id").n_unique(),
        new_users=pl.col("user_id").filter("is_new").n_unique(),
        rate=is_like.mean(),
        rate_without=is_like.filter(is_old).mean(),
        likers=pl.col("user_id").filter(is_like).n_unique(),
        likers_without=pl.col("user_id").filter(is_like & is_old).n_unique(),
    )
    likers = ("likers", "likers_without")
    ranks = [pl.col(name).rank("min", descending=True).alias(f"rank_of_{name}") for name in likers]
    is_most = pl.col("new_users") > config.item_share * pl.col("users")
    is_rated = (pl.col("rate") - pl.col("rate_without")).abs() >= config.rate_change
    rank, rank_without = (pl.col(f"rank_of_{name}") for name in likers)
    is_lifted = (rank <= config.top) & (rank_without > 2 * pl.max_horizontal(rank, config.top / 2))
    moved = items.with_columns(ranks).join(added.lazy().select("item_id").unique(), on="item_id", how="semi")
    moved = moved.filter((pl.col("new_users") >= config.new_users) & (is_most | is_rated | is_lifted))
    message = {}
    for row in moved.sort("new_users", "item_id", descending=[True, False]).collect().iter_rows(named=True):
        rate = "none" if row["rate_without"] is None else f"{row['rate_without']:.2f}"
        message[row["item_id"]] = (
            f"{row['new_users']:,} of its {row['users']:,} users are new; {row['rate']:.2f} of its ratings are likes, "
            f"without them {rate}; its rank by users with a like is {row['rank_of_likers']:,}, without them "
            f"{row['rank_of_likers_without']:,}"
        )
    return message


def without_known(new: pl.DataFrame, log: pl.LazyFrame) -> pl.DataFrame:
    """Return new interactions that the log lacks, with the label of its event where only other columns differ."""
    columns = log.collect_schema().names()
    later = log.filter(pl.col("timestamp") >= new["timestamp"].min()).collect() if new.height else new.select(columns)
    added = new.join(later, on=columns, how="anti", nulls_equal=True, maintain_order="left")
    return added.join(later.select(*EVENT_KEY, was="label"), on=EVENT_KEY, how="left", maintain_order="left")


def lens_auc(model: Model, samples: pl.DataFrame, least: int) -> float:
    """Return the AUC of a lens on samples of its log; NaN without a lens, for too few samples, or one class."""
    if model.lens is None or samples.height < least or samples["label"].n_unique() < 2:
        return np.nan
    lens = grow_lens(model.lens, model.log)
    return float(roc_auc_score(samples["label"], LensReader(lens, model.log).logits(samples)))


def _shares_won(scored: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of each user, and the mean share of the other label's rows that they are on the right side of."""
    is_like, rank = pl.col("label") == 1, pl.col("logit").rank()
    likes, within = is_like.sum(), pl.col("logit").rank().over("label")
    below = (rank - within) / pl.when(is_like).then(pl.len() - likes).otherwise(likes)
    won = scored.select("user_id", won=pl.when(is_like).then(below).otherwise(1 - below))
    return won.group_by("user_id", maintain_order=True).agg(pl.len().alias("rows"), pl.col("won").mean())


def _aucs(scored: pl.DataFrame, rows: pl.DataFrame, least: int) -> dict[str, float]:
    """Return the AUC on each group that has enough samples, and both classes; negatives count with their event."""
    moment = ["user_id", "timestamp"]
    samples = scored.join(rows.unique(moment, keep="first", maintain_order=True).select(*moment, "group"), on=moment)
    return {
        str(group): float(roc_auc_score(own["label"], own["logit"]))
        for (group,), own in samples.partition_by("group", as_dict=True, maintain_order=True).items()
        if own.height >= least and own["label"].n_unique() == 2
    }
