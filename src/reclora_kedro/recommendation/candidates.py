"""Requested users, the items that each may be recommended, and a shortlist of the best."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import numpy as np
import polars as pl
import torch

from reclora_kedro.baselines.base import Scorer
from reclora_kedro.candidates.index import NO_ITEM
from reclora_kedro.distributed.engine import LOCAL, EngineConfig, OncePerWorker, map_shards
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.questions import questions
from reclora_kedro.history.sequences import Sequences
from reclora_kedro.ingestion.raw_tables import RawColumns, as_polars
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.states import LensReader
from reclora_kedro.progress import Progress
from reclora_kedro.recommendation.config import CandidateKind, CandidateOrder, RecommendationConfig
from reclora_kedro.recommendation.finders import MOMENTS_AT_ONCE, Finder

SECONDS_PER_DAY, EARLIEST = 86_400, -(2**62)  # seconds
PAIRS_AT_ONCE = 2**16  # pairs of user and item that the lens scores between two moves of the progress bar


@dataclass(frozen=True)
class CandidateSets:
    """The items that each user may be recommended.

    Attributes:
        pool: item indices, most popular in the last days of the log first, then by popularity in the whole log:
            everyone's candidates, without those a user has interacted with.
        given: candidates of a table by user id, most popular first, including seen ones; None without a table.
    """

    sequences: Sequences
    pool: np.ndarray
    given: dict[Any, np.ndarray] | None = None

    def with_table(self, table: pl.DataFrame, user_type: pl.DataType, item_ids: pl.Series) -> tuple[Self, int]:
        """Return sets with the candidates of a table, and the number of its rows without a canonical item.

        Args:
            table: frame with user_id and item_id, of any types.
        """
        table = table.with_columns(
            pl.col("user_id").cast(user_type, strict=False), pl.col("item_id").cast(item_ids.dtype, strict=False)
        ).drop_nulls("user_id")
        in_log = pl.DataFrame({"item_id": item_ids.gather(self.pool), "item_index": self.pool})
        pairs = in_log.join(table.unique(), on="item_id", maintain_order="left")
        given = {user: np.array(part) for user, part in pairs.group_by("user_id").agg("item_index").iter_rows()}
        return replace(self, given=given), table.join(in_log, on="item_id", how="anti").height

    def for_user(self, user_id: Any, user_index: int | None) -> np.ndarray:
        """Return the item indices of a user's candidates; the index of an unknown user is None."""
        if self.given is not None:
            return self.given.get(user_id, self.pool[:0])
        return self.pool[~np.isin(self.pool, self.seen(user_index))]

    def seen(self, user_index: int | None) -> np.ndarray:
        if user_index is None:
            return self.sequences.item_index[:0]
        return self.sequences.item_index[self.sequences.starts[user_index] : self.sequences.ends[user_index]]


def popularity(sequences: Sequences, items: int, days: float) -> np.ndarray:
    """Count the events of each item in the last days of the log, shape (items,)."""
    return sequences.counts_after(max(sequences.last_second - days * SECONDS_PER_DAY, EARLIEST), items)


def candidate_table(table: Any) -> pl.DataFrame:
    """Return the validated entry `recommendation_candidates`; raise ValueError for an unfit or missing table."""
    if table is None:
        raise ValueError(
            "recommendation.candidates is 'table', but the catalog entry recommendation_candidates holds nothing: "
            "point it at a table with the columns user_id and item_id."
        )
    frame = as_polars(table, "recommendation_candidates")
    names = ("user_id", "item_id")
    missing = [column for column in names if column not in frame.columns]
    if missing:
        raise ValueError(
            f"recommendation_candidates lacks {' and '.join(missing)}; its columns are {', '.join(frame.columns)}: "
            "name them user_id and item_id."
        )
    raw = RawColumns(frame, "recommendation_candidates")
    return pl.DataFrame([raw.ids(name, "recommendation.candidates").alias(name) for name in names]).drop_nulls()


def best_of_each_user(pairs: pl.DataFrame, score: str | None, most: int | None) -> pl.DataFrame:
    """Keep each user's `most` best pairs by score, the earlier among equals, or the first ones without a score.

    Examples:
        >>> pairs = pl.DataFrame({"user_id": [7, 7, 3, 7], "item": ["a", "b", "c", "d"], "score": [0.2, 0.5, 0.9, 0.5]})
        >>> best_of_each_user(pairs, "score", most=2).rows()
        [(7, 'b', 0.5), (7, 'd', 0.5), (3, 'c', 0.9)]
    """
    if score is not None:
        places = pairs.select("user_id").with_row_index("place")
        first = places.select(pl.col("place").first().over("user_id")).to_series()  # users stay in their order
        pairs = pairs.sort(first, score, descending=[False, True], nulls_last=True, maintain_order=True)
    return pairs if most is None else pairs.filter(pl.int_range(pl.len()).over("user_id") < most)


def shortlist_candidates(
    lens: Lens,
    log: InteractionLog,
    table: pl.DataFrame | None,
    config: RecommendationConfig,
    kind: CandidateKind,
    order: CandidateOrder,
    make_source: Callable[[InteractionLog, np.ndarray], Scorer | Finder] | None = None,
    engine: EngineConfig = LOCAL,
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return each user's candidates, best first by the lens or in their own order, at most `config.shortlist` of them.

    A source, which each worker builds from the log and the pool, finds `config.retrieved` items without an event of the
    user, the most popular ones among equals. The lens reads each user's whole sequence as history. A user without
    events, or unknown to the log, gets the fallback: the `config.top_n` most popular candidates, unscored.

    Returns:
        Frame with user_id, item_id, title, user_index (null for an unknown user), item_index, lens_score (null in a
        fallback) and fallback, users in the requested order; and the counts users, fallbacks, empty_candidate_sets and
        unknown_items (rows of the table without a canonical item).

    Raises:
        MismatchError: lens and log stem from different runs.
    """
    everyone = (log.users if table is None else table)["user_id"]
    sets, unknown_items = candidate_sets(log, kind, config), 0
    requested = log.find_users(everyone if config.users is None else config.users)
    known = log.now(requested.select("user_index").drop_nulls())
    requested = requested.join(known, on="user_index", how="left", maintain_order="left")
    if table is not None:
        sets, unknown_items = sets.with_table(table, requested.schema["user_id"], log.items["item_id"])
    shards = [requested[rows] for rows in engine.shards(requested.height)]
    by = "lens_score" if order == "lens" else None
    without_samples = replace(log, samples=log.samples.clear())
    best = OncePerWorker(partial(_Shortlister, lens, without_samples, sets, config, by, make_source))
    shortlist = pl.concat(map_shards(best, shards, engine, "shortlist"))
    shortlist = shortlist.with_columns(log.items[shortlist["item_index"]].select("item_id", "title"))
    fallback_of = shortlist.unique("user_id")["fallback"]
    report = {
        "users": requested.height,
        "fallbacks": int(fallback_of.sum()),
        "empty_candidate_sets": requested.height - len(fallback_of),
        "unknown_items": unknown_items,
    }
    columns = ("user_id", "item_id", "title", "user_index", "item_index", "lens_score", "fallback")
    return shortlist.select(columns), report


def candidate_questions(log: InteractionLog, shortlist: pl.DataFrame) -> pl.DataFrame:
    """Return questions about each candidate now, without fallbacks; their row is the place in the shortlist."""
    return questions(log.now(shortlist.with_row_index("row").filter(~pl.col("fallback"))))


class _Shortlister:
    """Finds candidates of users with a source, and scores them with a lens."""

    def __init__(
        self,
        lens: Lens,
        log: InteractionLog,
        sets: CandidateSets,
        config: RecommendationConfig,
        by: str | None,
        make_source: Callable[[InteractionLog, np.ndarray], Scorer | Finder] | None,
    ) -> None:
        self._reader, self._sets, self._config, self._by = LensReader(lens, log), sets, config, by
        self._source = None if make_source is None else make_source(log, sets.pool)

    def __call__(self, requested: pl.DataFrame) -> pl.DataFrame:
        """Return the best pairs of some of the requested users."""
        parts = [_no_pairs(requested)]
        for pairs in self._candidates(requested):
            scored = pairs.with_columns(_scores(self._lens_scores, pairs).alias("lens_score"))
            parts.append(best_of_each_user(scored, self._by, self._config.shortlist))
        return pl.concat(parts)

    def _candidates(self, requested: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """Yield the candidates of several users at a time, see `_pairs_in_parts`."""
        source, most = self._source, self._config.retrieved
        if isinstance(source, Finder):
            yield from _found_in_parts(source, self._sets, requested, self._config)
            return
        for pairs in _pairs_in_parts(self._sets, requested, self._config.top_n):
            yield pairs if source is None else nearest(pairs, source, most)

    def _lens_scores(self, pairs: pl.DataFrame) -> np.ndarray:
        return torch.sigmoid(self._reader.logits(pairs).double()).numpy()


def nearest(pairs: pl.DataFrame, source: Scorer, most: int) -> pl.DataFrame:
    """Keep each user's best pairs by a source, the earlier among equals; those of a fallback as they are."""
    scores = _scores(source, pairs)
    return best_of_each_user(pairs.with_columns(scores), scores.name, most).drop(scores.name)


def candidate_sets(log: InteractionLog, kind: CandidateKind, config: RecommendationConfig) -> CandidateSets:
    """Return the sets of a kind, without a table."""
    counts = popularity(log.sequences, log.items.height, config.pool_days)
    before = np.where(counts, 0, popularity(log.sequences, log.items.height, np.inf))
    pool = np.lexsort((-before, -counts)).astype(np.int32)  # of equals, the first items
    if kind == "popular_recent":
        pool = pool[: min(config.pool_items, np.count_nonzero(counts))]
    return CandidateSets(log.sequences, pool)


def _no_pairs(requested: pl.DataFrame) -> pl.DataFrame:
    return requested.clear().with_columns(
        item_index=pl.lit(0, dtype=pl.Int32), fallback=pl.lit(True), lens_score=pl.lit(0.0)
    )


def _pairs_in_parts(sets: CandidateSets, requested: pl.DataFrame, top_n: int) -> Iterator[pl.DataFrame]:
    """Yield pairs of several users at a time: the columns of `requested`, item_index and fallback."""
    users, chosen, fallbacks, pairs = [], [], [], 0
    with Progress("shortlist", requested.height, "users") as progress:
        for place, (user_id, user_index) in enumerate(requested.select("user_id", "user_index").iter_rows()):
            progress.update()
            fallback = len(sets.seen(user_index)) == 0
            users.append(place)
            fallbacks.append(fallback)
            chosen.append(sets.for_user(user_id, user_index)[: top_n if fallback else None])
            pairs += len(chosen[-1])
            if pairs and (pairs >= PAIRS_AT_ONCE or place == requested.height - 1):
                counts = [len(part) for part in chosen]
                yield requested[np.repeat(users, counts)].with_columns(
                    item_index=pl.Series(np.concatenate(chosen), dtype=pl.Int32),
                    fallback=pl.Series(np.repeat(fallbacks, counts)),
                )
                users, chosen, fallbacks, pairs = [], [], [], 0


def _found_in_parts(
    source: Finder, sets: CandidateSets, requested: pl.DataFrame, config: RecommendationConfig
) -> Iterator[pl.DataFrame]:
    """Yield pairs of several users at a time as `_pairs_in_parts` does, of items that a source finds."""
    with Progress("shortlist", requested.height, "users") as progress:
        for users in requested.iter_slices(MOMENTS_AT_ONCE):
            is_known = np.array([len(sets.seen(user)) > 0 for user in users["user_index"]])
            items = [sets.pool[: config.top_n]] * users.height
            found = source.find(users.filter(is_known), config.retrieved)
            for place, of_user in zip(np.flatnonzero(is_known), found, strict=True):
                items[place] = of_user[of_user != NO_ITEM]
            yield users[np.repeat(np.arange(users.height), [len(of_user) for of_user in items])].with_columns(
                item_index=pl.Series(np.concatenate(items), dtype=pl.Int32),
                fallback=pl.Series(np.repeat(~is_known, [len(of_user) for of_user in items])),
            )
            progress.update(users.height)


def _scores(scorer: Scorer, pairs: pl.DataFrame) -> pl.Series:
    """Return the scores of pairs: float64, null for a fallback."""
    scores = np.full(pairs.height, np.nan)
    scored = ~pairs["fallback"].to_numpy()
    if scored.any():
        scores[scored] = scorer(pairs.filter(scored))
    return pl.Series("score", scores).fill_nan(None)
