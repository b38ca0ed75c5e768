"""Lists for all requested users, with their reasons, and what is delivered of them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypedDict

import numpy as np
import polars as pl
from pydantic import JsonValue
from rich.console import Console
from rich.table import Table

from kedro_provenance.errors import Fault, Parameter
from reclora_kedro.candidates.moments import NO_ITEM, NOTHING, Moments, rows_of_lists, why_empty
from reclora_kedro.distributed.engine import LOCAL, EngineConfig, map_shards
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.questions import questions
from reclora_kedro.ingestion.ids import canonical, names
from reclora_kedro.ingestion.raw_tables import RawColumns, as_polars
from reclora_kedro.progress import Progress
from reclora_kedro.recommendation.chosen import Concentration
from reclora_kedro.recommendation.diversity import diversify
from reclora_kedro.recommendation.recommender import MOMENTS_AT_ONCE, FittedRecommender

logger = logging.getLogger(__name__)

WHY_EMPTY = {
    "took_all": "they took all items that may be recommended",
    "nothing_allowed": "all items that they might get are excluded",
    "no_candidates": "they have no candidates",
}


def require_table(table: Any) -> pl.DataFrame:
    """Return the entry `recommendation_candidates`; raise ValueError if it holds no table with its columns."""
    if table is None:
        found = "is 'table', but the catalog entry recommendation_candidates holds nothing"
        advice = "Point it at a table with the columns user_id and item_id"
        raise Fault(Parameter("recommendation.candidates"), found, advice=advice)
    frame = as_polars(table, "recommendation_candidates")
    missing = [column for column in ("user_id", "item_id") if column not in frame.columns]
    if missing:
        columns = f"its columns are {', '.join(frame.columns)}"
        advice = "Name them user_id and item_id"
        raise Fault("recommendation_candidates", f"lacks {' and '.join(missing)}", columns, advice)
    return frame


def candidate_table(table: Any, log: InteractionLog) -> pl.DataFrame:
    """Return user_id (text) and item_index, null for an unknown one, of `recommendation_candidates`; warn of these."""
    raw = RawColumns(require_table(table), "recommendation_candidates")
    ids = [raw.ids(name, "recommendation.candidates").cast(pl.String).alias(name) for name in ("user_id", "item_id")]
    pairs = pl.DataFrame(ids).drop_nulls().unique(maintain_order=True)
    return pairs.select("user_id", log.find_items(pairs["item_id"], "recommendation_candidates").alias("item_index"))


def items_of_users(table: pl.DataFrame, user_type: pl.DataType) -> dict[Any, np.ndarray]:
    """Return the item indices of each user of a `candidate_table`, by ids of a type."""
    typed = table.with_columns(canonical(table["user_id"], user_type, strict=False)).drop_nulls("user_id")
    groups = typed.group_by("user_id").agg(pl.col("item_index").drop_nulls()).iter_rows()
    return {user: np.array(items, dtype=np.int64) for user, items in groups}


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """Makes the lists of users now, in the same way for nodes and for scripts."""

    recommender: FittedRecommender
    limit: int  # maximum length of a list
    shown: int | None = None  # first items of it that users see, for which rules hold; None as in the settings
    allowed: Mapping[Any, np.ndarray] | None = None  # the only items of each user, by id; None for the whole catalogue
    repeat: bool | None = None  # whether items that a user took may be recommended; None as in the settings
    excluded: Mapping[Any, np.ndarray] = field(default_factory=dict)  # further items that each user may not get, by id

    def __call__(self, requested: pl.DataFrame) -> pl.DataFrame:
        """Return the lists of users, see `lists_for_users`, by user_id and user_index, null for an unknown user."""
        parts = []
        with Progress("lists", requested.height, "users") as progress:
            for users in [*requested.iter_slices(MOMENTS_AT_ONCE)] or [requested]:
                parts.append(self._lists(users))
                progress.update(users.height)
        return pl.concat(parts)

    @cached_property
    def _titles(self) -> np.ndarray:
        return self.recommender.log.items["title"].to_numpy()

    def warn_of_empty(self, requested: pl.DataFrame, lists: pl.DataFrame) -> None:
        """Say how many users get no items, and why."""
        users, everything = requested.join(lists, on="user_id", how="anti")["user_id"], self.recommender.order.items
        reasons = dict[str, list[Any]]()
        for user in users.to_list():
            candidates = everything if self.allowed is None else self.allowed.get(user, NOTHING)
            excluded = np.concatenate([self.recommender.rules.excluded, self.excluded.get(user, NOTHING)])
            reasons.setdefault(why_empty(candidates, excluded), []).append(user)
        for reason, of_reason in reasons.items():
            count = f"{len(of_reason)} of {requested.height} users"
            logger.warning("%s get no items, because %s: %s.", count, WHY_EMPTY[reason], names(of_reason))

    def moments(self, users: pl.DataFrame) -> Moments:
        """Return the moments of users now, by user_id and user_index, null for an unknown user."""
        log = self.recommender.log
        requests = log.now(users.with_columns(pl.col("user_index").fill_null(0)))
        starts = pl.Series(log.sequences.starts[requests["user_index"].to_numpy()])
        is_known = users["user_index"].is_not_null()  # else it has no events, whoever is at this index
        requests = requests.with_columns(history_end=requests["history_end"].zip_with(is_known, starts))
        only, ids = self.allowed, users["user_id"].to_list()
        allowed = None if only is None else [only.get(user, NOTHING) for user in ids]
        excluded = [self.excluded.get(user, NOTHING) for user in ids]
        return self.recommender.moments(requests, repeat=self.repeat, excluded=excluded, allowed=allowed)

    def _lists(self, users: pl.DataFrame) -> pl.DataFrame:
        recommender, log, moments = self.recommender, self.recommender.log, self.moments(users)
        lists = recommender.best_lists(moments, self.limit, self.shown)
        items = lists.items
        row, place = np.nonzero(items != NO_ITEM)
        reasons = recommender.explain(moments, np.where(moments.has_events[:, None], items, NO_ITEM))
        because = [
            [self._titles[events].tolist() for events, _ in own] if own else [[]] * int((of_row != NO_ITEM).sum())
            for own, of_row in zip(reasons, items, strict=True)
        ]
        return users[row].select(
            "user_id",
            *log.items[items[row, place]].select("item_id", "title"),
            "user_index",
            item_index=pl.Series(items[row, place], dtype=pl.Int32),
            score=pl.Series(lists.scores[row, place]).fill_nan(None),
            because=pl.Series([each for own in because for each in own], dtype=pl.List(pl.String)),
            fallback=pl.Series(~moments.has_events[row]),
            **({"rule": recommender.told_rules(lists.rules[row, place])} if len(lists.rules) else {}),
        )


class VisitorList(TypedDict):
    """What a visitor took, as titles, and the list for it: rank, title and because of each item."""

    taken: Sequence[str]
    list: Sequence[Mapping[str, object]]


class ServedUsers(TypedDict):
    """Numbers of users whose lists were made."""

    users: int
    fallbacks: int  # users without events, who get the most popular items
    empty_candidate_sets: int  # users without any candidate


class ShortlistReport(ServedUsers):
    """The entry `shortlist_report`."""

    example: VisitorList | None  # None where users get other lists
    concentration: JsonValue  # a `Concentration`; None for fewer than two lists
    warnings: list[str]  # how lists are too alike


def lists_for_users(
    recommender: FittedRecommender,
    users: Any,
    limit: int,
    table: pl.DataFrame | None = None,
    engine: EngineConfig = LOCAL,
) -> tuple[pl.DataFrame, ServedUsers]:
    """Return each user's best items now, best first, at most `limit` of them.

    A user without events, or unknown to the log, gets the most popular items, without scores (a fallback). No `users`
    stand for all of the log, or of the table, which has the only items of each, also those that they took before.

    Returns:
        Frame with user_id, item_id, title, user_index (null for an unknown user), item_index, score (what
        orders the list, null where nothing does), because (titles of the user's events nearest to the item) and
        fallback, users in the requested order; and numbers of users.
    """
    log = recommender.log
    everyone = log.users["user_id"] if table is None else table["user_id"]
    requested = log.find_users(everyone if users is None else users)
    allowed = None if table is None else items_of_users(table, requested.schema["user_id"])
    deliver = Delivery(recommender=recommender, limit=limit, allowed=allowed, repeat=None if allowed is None else True)
    shards = [requested[rows] for rows in engine.shards(requested.height)]
    lists = pl.concat(map_shards(deliver, shards, engine, "lists", one_thread=True))
    deliver.warn_of_empty(requested, lists)
    fallback_of, users = lists.unique("user_id")["fallback"], requested.height
    empty = users - len(fallback_of)
    return lists, ServedUsers(users=users, fallbacks=int(fallback_of.sum()), empty_candidate_sets=empty)


def concentration(lists: pl.DataFrame, n: int, catalogue: int) -> Concentration | None:
    """Return how alike the first n items of known users' lists are; None for fewer than two users."""
    own = lists.filter(~pl.col("fallback"))
    return Concentration.from_lists(rows_of_lists(own["user_id"], own["item_index"])[1][:, :n], catalogue)


def candidate_questions(log: InteractionLog, shortlist: pl.DataFrame) -> pl.DataFrame:
    """Return questions about each candidate now, without fallbacks; their row is the place in the shortlist."""
    return questions(log.now(shortlist.with_row_index("row").filter(~pl.col("fallback"))))


def without_samples(log: InteractionLog) -> InteractionLog:
    return replace(log, samples=log.samples.clear(), repeats=None)


def best_of_shortlists(
    shortlist: pl.DataFrame,
    scores: pl.DataFrame | None,
    top_n: int,
    diversity: float = 0,
    vectors: np.ndarray | None = None,
) -> pl.DataFrame:
    """The best `top_n` of each user's shortlist.

    Args:
        scores: row, score (a probability of a like) and shown_history of the shortlist's questions, which order it;
            None: the first items stay, with their own scores, and no prompt showed anything.
        diversity: strength of a re-ranking of what scores order, see `diversify`.
        vectors: vectors of the items, shape (items, d), for that.

    Returns:
        Frame with user_id, rank (from 1), item_id, title, score (what orders the list; null where nothing does, as in a
        fallback or where diversity or a rule has changed the order), because (titles of the user's events nearest to
        the item), shown_history (titles that the prompt showed, oldest first), fallback, and under rules also rule
        (what has moved the item, or null), users in the order of the shortlist.

    Examples:
        >>> shortlist = pl.DataFrame(
        ...     {"user_id": [7, 7], "item_id": [1, 2], "title": ["Heat", "Net"], "score": [0.9, 0.4],
        ...      "because": [["Casino"], []], "fallback": [False, False]}
        ... )
        >>> best_of_shortlists(shortlist, None, top_n=1).select("user_id", "rank", "title", "score").rows()
        [(7, 1, 'Heat', 0.9)]
    """
    nothing = pl.lit([], dtype=pl.List(pl.String))
    ranked = shortlist.with_row_index("row")
    if scores is None:
        ranked = ranked.with_columns(shown_history=nothing)
    else:
        scored = scores.select("row", "score", "shown_history")
        ranked = ranked.drop("score").join(scored, on="row", how="left", maintain_order="left")
        ranked = ranked.with_columns(pl.col("shown_history").fill_null([]))
        ranked = ranked.with_columns(user=pl.col("user_id").rle_id())
        ranked = ranked.sort("user", "score", descending=[False, True], nulls_last=True, maintain_order=True)
        if vectors is not None:
            ranked = diversify(ranked, vectors, diversity, top_n).with_columns(score=pl.lit(None, dtype=pl.Float64))
    rank = pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("user_id").alias("rank")
    columns = ("user_id", rank, "item_id", "title", "score", "because", "shown_history", "fallback")
    under_rules = ["rule"] if "rule" in ranked.columns else []
    return ranked.select(*columns, *under_rules).filter(pl.col("rank") <= top_n)


def as_lines(recommendations: pl.DataFrame) -> pl.DataFrame:
    """Return recommendations for CSV and databases, the reasons as one text and without the histories of prompts."""
    return recommendations.with_columns(pl.col("because").list.join("; ")).drop("shown_history")


def first_lists(recommendations: pl.DataFrame) -> pl.DataFrame:
    """Return the recommendations of the first user with a history, or else of the first user."""
    user = recommendations.filter(~pl.col("fallback")).head(1)
    user = recommendations.head(1) if user.is_empty() else user
    return recommendations.join(user.select("user_id"), on="user_id", how="semi", maintain_order="left")


def titles_table(recommendations: pl.DataFrame) -> Table | str:
    """Tabulate the recommendations of one user, with reasons, see `first_lists`."""
    own = first_lists(recommendations)
    if own.is_empty():
        return "No user has any candidate."
    fallback = ", the most popular items (no history)" if own["fallback"][0] else ""
    return list_table(own, f"Recommended to user {own['user_id'][0]}{fallback}")


def list_table(own: pl.DataFrame, heading: str) -> Table:
    """Tabulate a list: rank, title, and the reasons (titles), which a narrow terminal shortens or leaves out."""
    table = Table(title=heading, title_justify="left")
    table.add_column("", justify="right", no_wrap=True)
    width = min(max(len(str(title)) for title in own["title"]), 34)
    room = min(36, Console().width - width - len(str(own.height)) - 10)
    table.add_column("title", overflow="fold", min_width=width if room >= 12 else None, max_width=34)
    if room >= 12:
        table.add_column("because of", overflow="ellipsis", no_wrap=True, max_width=room)
    for rank, title, because in own.select("rank", "title", "because").iter_rows():
        table.add_row(str(rank), title, *["; ".join(because)] * (room >= 12))
    return table


def delivery_lines(method: str, label: str, reason: str, report: ShortlistReport) -> str:
    """Return in sentences how lists are made, for how many users, and how alike they are."""
    lines = [f"Lists are made by {method} ({label}): {reason}."]
    counts = f"{report['users']:,} users"
    if report["fallbacks"]:
        counts += f", of whom {report['fallbacks']:,} without events get the most popular items"
    if report["empty_candidate_sets"]:
        counts += f", {report['empty_candidate_sets']:,} without any candidate"
    if report["concentration"] is None:
        return "\n".join([*lines, f"{counts}."])
    alike = Concentration.model_validate(report["concentration"])
    shared = f"their lists hold {alike.coverage:.1%} of all items, and two users share {alike.overlap:.0%} of a list"
    return "\n".join([*lines, f"{counts}; {shared} on average.", *report["warnings"]])
