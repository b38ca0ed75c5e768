"""The Recommender from Python, without Kedro: frames or files in, frames out, and a folder that keeps it.

All is done as the pipelines do it: ingestion cleans, history splits, likes choose, and the same code makes the lists.
"""

import html
import json
import logging
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import numpy as np
import polars as pl
import yaml
from pydantic import ValidationError
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_array

from kedro_provenance.errors import Fault, Parameter, Term, Value, words_of
from kedro_provenance.files.atomic import atomic_folder
from kedro_provenance.parameters import Block, parameter_paths, soft_merge, value_faults
from reclora_kedro.candidates.item_model import Training
from reclora_kedro.candidates.linear import Texts
from reclora_kedro.defaults import change_settings, default_entry, default_parameters
from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.errors import Column, GiveTable, Loading, NameColumn, NameIds, Table
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.metric import columns_of
from reclora_kedro.history.config import CO_OCCURRENCE, SENTENCE_ENCODER, TFIDF, HistoryConfig, ItemEmbeddingConfig
from reclora_kedro.history.fields import Values, check_values, describe_items, items_with
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.log_builder import build_log
from reclora_kedro.history.sequences import first_not_before, user_of_events, with_indices
from reclora_kedro.history.suiting import suiting_settings
from reclora_kedro.ingestion import entities
from reclora_kedro.ingestion.cleaning import clean_interactions
from reclora_kedro.ingestion.cleaning_report import CleaningReport
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.ingestion.guess import ROW_NUMBER, RawTable
from reclora_kedro.ingestion.guess_tables import guess, ingestion_block, item_fields
from reclora_kedro.ingestion.ids import look_up, names
from reclora_kedro.ingestion.raw_tables import ROW, UNIX_UNITS
from reclora_kedro.ingestion.tables import TableFormat, read_tables
from reclora_kedro.llm.item_vectors import embed_items, embed_new_items
from reclora_kedro.recommendation.choice import LEAST_LIKES, MethodChoice
from reclora_kedro.recommendation.chosen import Choice, config_kinds
from reclora_kedro.recommendation.config import RankingConfig, RecommendationConfig
from reclora_kedro.recommendation.delivery import Delivery, best_of_shortlists
from reclora_kedro.recommendation.item_ranks import rank_test_likes
from reclora_kedro.recommendation.list_metrics import (
    OWN_METRICS,
    Catalogue,
    RankedLists,
    RankingMetric,
    ranking_metrics,
)
from reclora_kedro.recommendation.ranking_metrics import RankingRow, compute_ranking_metrics, user_means
from reclora_kedro.recommendation.recommender import MOMENTS_AT_ONCE, FittedRecommender
from reclora_kedro.recommendation.rules import ListRequest, check_rules
from reclora_kedro.recommendation.visitors import similar_items, with_visitors
from reclora_kedro.sealed import damage, is_sealed, seal
from reclora_kedro.serving.journal import Content
from reclora_kedro.serving.journal_tables import Event
from reclora_kedro.serving.live_log import LiveLog, LiveSequences
from reclora_kedro.update.updates import clean_new_events

logger = logging.getLogger(__name__)

T = TypeVar("T", bound=Block)
V = TypeVar("V")

COLUMNS = ("user_id", "item_id", "rating", "timestamp", "title")
"""Names of the columns that are read, but for texts of items."""
BLOCKS = ("ingestion.interactions", "ingestion.items", "ingestion", "history", "recommendation")
"""Blocks whose parameters are keywords."""
ARGUMENTS = {"ranking.rows": "likes"}
LOG_COLUMNS = COLUMNS[:4]
FRAME = TableFormat(kind="parquet")
GLANCE = 200_000  # rows of a log that tell what its columns mean
YEAR_FIRST = r"^\d{4}[-/]\d\d?[-/]\d\d?([T ]|$)"  # dates whose day and month cannot be confused
OF_LISTS = {"negatives": {"kind": "none"}, "prompt_rows": {"unit": "likes"}}  # lists need neither negatives nor prompts
STEPS = ("ingestion", "history", "recommendation", "candidates", "evaluation")
"""Steps whose parameters are settings of `Recommender.fit`."""
UNREAD = (
    *("ingestion.users", "ingestion.item_texts", "history.short", "history.prompt_rows"),
    *("recommendation.users", "recommendation.candidates", "recommendation.variant"),
)
"""Parameters of these steps that only a project reads."""
EVENT = ("user_index", "item_index", "timestamp")
LOG_FOLDER, SETTINGS_FILE, WEIGHTS_FILE = "log", "recommender.json", "weights.safetensors"
USUAL_COLUMNS = 'Name columns by columns={"user_id": "customer"}'
OF_BEST = ("ndcg_difference", "ndcg_difference_low", "ndcg_difference_high", "p_adjusted")
FIT_AGAIN = "Fit the recommender again, and save it"


def words_of_scripts(term: Term) -> str:
    """Return what scripts call a term: keywords of `Recommender.fit` for parameters, and its arguments for tables.

    Examples:
        >>> words_of_scripts(Parameter("ingestion.items.title")), words_of_scripts(Parameter("ingestion.rating_min"))
        ('columns["title"]', 'rating_min')
    """
    match term:
        case Parameter(path) if path in ARGUMENTS:
            return ARGUMENTS[path]
        case Parameter(path):
            block, _, name = path.rpartition(".")
            if name in COLUMNS and block in BLOCKS:
                return f'columns["{name}"]'
            return next((path.removeprefix(f"{block}.") for block in BLOCKS if path.startswith(f"{block}.")), path)
        case NameColumn(Parameter("ingestion.items.item_id")):
            return "rename the one that has the ids of items to item_id"
        case NameColumn(parameter):
            return f"set `{words_of_scripts(parameter)}` to one of them"
        case Column(name, table):
            return f"Column {name!r} of {words_of_scripts(table)}"
        case Table(name):
            return "events" if name == "raw_new_interactions" else name.removeprefix("raw_")
        case NameIds():
            return 'name them by columns={"user_id": ..., "item_id": ...}'
        case GiveTable():
            return "give a frame or the path of a file with rows"
        case Loading():
            return ""
        case Value(value):
            return reprlib.repr(value)
    return str(term)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Recommender(FittedRecommender):
    """Recommend items from a log of ratings, purchases or clicks; begin with `Recommender.fit`.

    `compared` has the methods on the validation likes by which `fit` has chosen one: the columns of `evaluate`, the
    difference of NDCG to the best method with its interval, and p_adjusted (Holm). It is None where no likes chose.

    Examples:
        >>> from reclora_kedro import Recommender
        >>> recommender = Recommender.fit("ratings.csv", "films.csv")  # doctest: +SKIP
        >>> recommender.recommend(1, n=3)  # doctest: +SKIP
    """

    compared: pl.DataFrame | None = None
    ingestion: IngestionConfig | None = None  # how further events are read
    later_events: int = 0  # which `with_events` has added

    def __repr__(self) -> str:
        """Return the method, the reason for it, the sizes of the log, and what to call next, a line each."""
        log, alike = self.log, self.choice.at_test_moments
        shared = alike and f"two users share {alike.overlap:.0%}; {alike.most_frequent:.0%} have the most frequent item"
        return (
            f"Recommender: lists are made by {self.choice.name}\n"
            f"  chosen: {self.choice.reason}\n"
            f"  lists: {shared or 'not compared, as there are fewer than two test likes'}\n"
            f"  sources: {', '.join(self.choice.sources)}\n"
            f"  log: {log.users.height:,} users, {log.items.height:,} items, {log.sequences.offsets[-1]:,} events\n"
            "  next: recommend(users), similar_items(items), evaluate(), save(folder)"
        )

    def _repr_html_(self) -> str:
        head, *lines = html.escape(repr(self)).splitlines()
        rows = (line.strip().partition(": ") for line in lines)
        cells = "".join(f"<tr><th>{name}</th><td style='text-align: left'>{text}</td></tr>" for name, _, text in rows)
        return f"<table><caption>{head}</caption>{cells}</table>"

    def __dir__(self) -> list[str]:  # what scripts call, without what nodes and the service call besides
        return [*vars(Recommender).keys() - {"ingestion", "later_events"}, "choice", "config", "log"]

    @classmethod
    @words_of(words_of_scripts)
    def fit(
        cls,
        interactions: Any,
        items: Any = None,
        *,
        columns: Mapping[str, Any] | None = None,
        sources: Sequence[str] | None = None,
        method: str | None = None,
        encoders: Sequence[str] | None = None,
        repeat: bool | None = None,
        exclude_items: Sequence[Any] | None = None,
        diversity: float | None = None,
        protocol: Literal["live", "published"] | None = None,
        rating_min: float | None = None,
        rating_max: float | None = None,
        label_threshold: float | None = None,
        timestamp_format: str | None = None,
        min_history: int | None = None,
        seed: int | None = None,
        **settings: Any,
    ) -> Self:
        """Fit to all events of a log, by the settings and the method that likes of its validation split choose.

        Args:
            interactions: polars or pandas frame, or the path of a CSV, parquet or JSON lines file, with a row per
                event: user_id, item_id and, if there are any, rating and timestamp (seconds since 1970, or dates and
                times). Without ratings every row is a like; without times a user's rows are in their order.
            items: such a table with item_id, title and further texts; None if items have ids only.
            columns: other names of these columns, such as ``{"user_id": "customer"}``; None for one not to be read.
                Further columns of the log, and numbers of the items, are declared as in
                `ingestion.interactions.columns`, such as ``{"price": {"from": "amount", "kind": "number"}}``.
            sources: item models that find items, such as ``["popularity"]``. Here and below, None as in conf/base.
            method: what makes the lists: a source, "fusion" or "ranker"; "validation" chooses.
            encoders: what makes vectors of the items' texts, such as ``["tfidf"]``.
            repeat: whether items that a user took may be recommended again.
            exclude_items: ids of items that are never recommended, or patterns such as ``"POST*"``.
            diversity: how strongly lists are re-ranked for different texts, from 0 to less than 1.
            protocol: "live": models know the time of each like and what others did before it; "published": they know
                the training events and the user's history alone.
            rating_min, rating_max: ends of the scale of ratings; rows beyond them are dropped.
            label_threshold: lowest rating that is a like.
            timestamp_format: such as "unix_milliseconds" or "%d.%m.%Y".
            min_history: number of earlier events that a like needs to choose and to test methods.
            seed: that of all draws.
            settings: other parameters of the steps ingestion, history, recommendation and candidates of
                docs/reference/parameters.md, by their names, such as ``k_core=5``; where several have one name, by the
                block, such as ``linear={"text_weights": [0.8]}``.

        Raises:
            ValueError: a table or a setting is unfit; the message says what was found, what was expected, and what to
                do.
            TypeError: there is no such setting.
        """
        named: dict[str, Any] = {"sources": sources, "method": method, "encoders": encoders, "repeat": repeat}
        named |= {"exclude_items": exclude_items, "diversity": diversity, "protocol": protocol}
        named |= {"rating_min": rating_min, "rating_max": rating_max, "label_threshold": label_threshold}
        named |= {"timestamp_format": timestamp_format, "min_history": min_history}
        given = {name: value for name, value in named.items() if value is not None} | settings
        blocks = settings_of_base(seed, given.get("sources", ()))
        log = read_log(interactions, items, columns or {}, blocks, given)
        config = validated(RecommendationConfig, blocks, "recommendation")
        kinds = config_kinds(config.sources)
        configs = {source: validated(kind, blocks, source.rpartition(".")[2]) for source, kind in kinds.items()}
        bootstrap = Bootstrap(**blocks["bootstrap"])
        chosen, records = MethodChoice(log=log, config=config, configs=configs, bootstrap=bootstrap).choose()
        few = bool(records) and records[0]["rows"] < LEAST_LIKES
        logger.log(logging.WARNING if few else logging.INFO, "Lists are made by %s: %s.", chosen.kind, chosen.reason)
        for warning in chosen.at_test_moments.warnings(None) if chosen.at_test_moments else ():
            logger.warning(warning)
        recommender = cls.from_choice(Training.from_log(log), chosen, config)
        compared = _methods_table(records, chosen, OWN_METRICS, OF_BEST) if records else None
        return replace(recommender, compared=compared, ingestion=validated(IngestionConfig, blocks, "ingestion"))

    @words_of(words_of_scripts)
    def recommend(
        self,
        users: Any = None,
        n: int | Mapping[Any, int] = 10,
        *,
        histories: Sequence[Any] | None = None,
        exclude: Iterable[Any] | Mapping[Any, Iterable[Any]] | None = None,
        candidates: Iterable[Any] | Mapping[Any, Iterable[Any]] | None = None,
        filter: Values | None = None,
        rules: Sequence[Mapping[str, Any]] | None = None,
        repeat: bool | None = None,
    ) -> pl.DataFrame:
        """Recommend items to users now, as the pipeline does.

        Args:
            users: an id, several ids, or a table with the column user_id; each counts once. None for all users. An
                unknown one gets the most popular items, and a warning names it.
            n: length of the lists, or, in a dict, of each user's.
            histories: for visitors in place of users, what each of them took: ids of items in that order, or a table or
                dicts with item_id and any of rating, timestamp (seconds since 1970, or dates and times) and the further
                columns of the log. An event without a rating is a like, unless it weighs nothing. Here and below, a
                warning names unknown items, which are left out.
            exclude: ids of further items that nobody may get or, in a dict, that each user may not.
            candidates: ids of the only items to recommend, to all or, in a dict, to each user; others get none.
            filter: values of fields of the items, such as ``{"genres": ["Comedy", "Drama"], "price": {"max": 20}}``:
                recommended items have one of each field.
            rules: in place of `recommendation.rules`, such as ``[{"boost": {"brand": ["Acme"]}, "places": 5}]``.
            repeat: whether items that a user took may be recommended; None as in the settings.

        Returns:
            Frame with user_id (of a visitor, the place among the histories, from 0), rank (from 1), item_id, title,
            score (what orders the list; null where nothing does), because (titles of the user's events that are nearest
            to the item) and, under rules that order lists, rule (which has moved the item).

        Raises:
            ValueError: a value is no id, or a number that is written in another way than the log's ids, such as 018.
        """
        _require_repeat(repeat)
        if users is not None and histories is not None:
            raise Fault("users", "are given together with histories of visitors", advice="Call recommend once for each")
        asked = validated(ListRequest, {"recommend": {"filter": filter or {}, "rules": rules}}, "recommend")
        check_values(asked.filter, self.log.items, "filter")
        check_rules(asked.rules or (), self.log.items, "rules")
        recommender: FittedRecommender = self.with_rules(asked.rules)
        if histories is not None:
            recommender, requested = with_visitors(recommender, histories, ingestion=self.ingestion)
        else:
            requested = self.log.find_users(self.log.users["user_id"] if users is None else users)
        users = requested["user_id"].to_list()
        lengths = np.array(_lengths(self.log, n, users), dtype=np.int64)
        allowed = None if candidates is None else _items_by_user(self.log, candidates, users, "candidates")
        if filter:
            suitable = items_with(self.log.items, asked.filter)
            of_each = dict.fromkeys(users, np.arange(len(suitable))) if allowed is None else allowed
            allowed = {user: items[suitable[items]] for user, items in of_each.items()}
        delivery = Delivery(
            recommender=recommender,
            limit=1,
            allowed=allowed,
            repeat=repeat,
            excluded={} if exclude is None else _items_by_user(self.log, exclude, users, "exclude"),
        )
        lists = pl.concat(
            replace(delivery, limit=length, shown=length)(requested.filter(lengths == length))
            for length in np.unique(lengths).tolist() or [1]
        )
        lists = requested.select("user_id").join(lists, on="user_id", maintain_order="left_right")
        delivery.warn_of_empty(requested, lists)
        recommended = best_of_shortlists(lists, None, int(lengths.max(initial=1)))
        return recommended.drop("shown_history", "fallback")

    @words_of(words_of_scripts)
    def score(self, users: Any, items: Any, *, repeat: bool | None = None) -> pl.DataFrame:
        """Return the score of each pair of a user and an item now, as `recommend` gives it.

        Args:
            users: an id per pair, as a list, a column, or a table with user_id.
            items: the ids of the pairs' items, in the same order.
            repeat: whether items that a user took may be recommended; None as in the settings.

        Returns:
            Frame with user_id, item_id and score, a row per pair. The score is null where no list of the user would
            have one: the user or the item is unknown, which a warning names, the user has no events, may not get the
            item, or no source has it among its best.

        Raises:
            ValueError: the lengths differ, or a value is no id, as in `recommend`.
        """
        _require_repeat(repeat)
        pairs = look_up(users, self.log.users["user_id"], "users"), look_up(items, self.log.items["item_id"], "items")
        if pairs[0].height != pairs[1].height:
            found = f"are {pairs[0].height:,}, and items {pairs[1].height:,}"
            raise Fault("users", found, "a pair has one of each", "Give two lists of equal length")
        for name, of_pairs in zip(("users", "items"), pairs, strict=True):
            _warn_of_unknown(name, of_pairs, "which get no score")
        known_pairs = (pairs[0]["index"].is_not_null() & pairs[1]["index"].is_not_null()).arg_true()
        user, wanted = (each["index"].gather(known_pairs).to_numpy() for each in pairs)
        known, row = np.unique(user, return_inverse=True)
        scores = np.full(pairs[0].height, np.nan)
        delivery = Delivery(recommender=self, limit=self.log.items.height, repeat=repeat)
        for start in range(0, len(known), MOMENTS_AT_ONCE):
            indices = known[start : start + MOMENTS_AT_ONCE]
            asked = self.log.users["user_id"].gather(indices).to_frame().with_columns(user_index=pl.Series(indices))
            lists = self.best_lists(delivery.moments(asked), delivery.limit)
            here = (row >= start) & (row < start + len(indices))
            place = np.argmax(lists.items[row[here] - start] == wanted[here, None], axis=1)
            is_listed = lists.items[row[here] - start, place] == wanted[here]
            scores[known_pairs.to_numpy()[here]] = np.where(is_listed, lists.scores[row[here] - start, place], np.nan)
        ids = pairs[0].select(user_id="id").with_columns(item_id=pairs[1]["id"])
        return ids.with_columns(score=pl.Series(scores).fill_nan(None))

    @words_of(words_of_scripts)
    def similar_items(self, items: Any = None, n: int = 10) -> pl.DataFrame:
        """Return the items that suit those who took an item: the list of a visitor who took it alone.

        Args:
            items: an id, or several ids, of which a warning names unknown ones; None for all items.

        Returns:
            Frame with item_id, rank (from 1), similar_id, title and score (what orders the list).

        Raises:
            ValueError: a value is no id.
        """
        require_length("n", n)
        every = np.arange(self.log.items.height)
        return similar_items(self, every if items is None else _item_indices(self.log, items, "items"), n)

    @words_of(words_of_scripts)
    def similar_users(self, users: Any = None, n: int = 10) -> pl.DataFrame:
        """Return the users who took the same items, by the cosine of what they took.

        An item counts by one over the root of its number of users, as in item-kNN: a rare item says more. Events weigh
        as for item models. The frame names users to one another, so show it only to those who may see all ids.

        Args:
            users: an id, or several ids, of which a warning names unknown ones; None for all users.

        Returns:
            Frame with user_id, rank (from 1), similar_id and score (the cosine, above 0).
        """
        require_length("n", n)
        ids, training = self.log.users["user_id"], Training.from_log(self.log)
        found = look_up(ids if users is None else users, ids, "users").unique("given", maintain_order=True)
        _warn_of_unknown("users", found, "left out")
        asked = found["index"].drop_nulls().to_numpy()
        vectors = csr_array(training.user_items.multiply(np.maximum(training.users, 1) ** -0.5))
        lengths, parts = np.sqrt(np.maximum((vectors**2).sum(axis=1), np.finfo(np.float32).tiny)), list[pl.DataFrame]()
        for own in np.array_split(asked, range(MOMENTS_AT_ONCE, len(asked), MOMENTS_AT_ONCE)):
            cosines = (vectors[own] @ vectors.T).toarray() / lengths[own, None] / lengths
            cosines[np.arange(len(own)), own] = 0
            order = np.argsort(-cosines, axis=1, kind="stable")[:, :n]
            row, place = np.nonzero(np.take_along_axis(cosines, order, axis=1))
            similar, rank = order[row, place], pl.Series("rank", place + 1, dtype=pl.Int32)
            columns = {"similar_id": ids[similar], "score": cosines[row, similar].astype(np.float64)}
            parts.append(pl.DataFrame({"user_id": ids[own[row]], "rank": rank} | columns))
        return pl.concat(parts)

    @words_of(words_of_scripts)
    def with_items(self, items: Any) -> Self:
        """Return a recommender with new items, and other values of known ones, such as prices; this one stays as it is.

        The method and its settings stay, and are fitted to the same events with all items, as by `load`: lists find new
        items by their texts. What made vectors of the items makes those of new texts.

        Args:
            items: a table with item_id and any of title and the items' other columns. Null, and a column that is left
                out, changes nothing.

        Raises:
            ValueError: items have no such column, an id is unfit or repeated, or a new item has no title.
        """
        self._require_scripts_own()
        log = _log_of_items(self.log, entities.grown_items(self.log.items, items))
        grown = self.from_choice(Training.from_log(log, learned=self.learned()), self.choice, self.config)
        return replace(grown, compared=self.compared, ingestion=self.ingestion)

    @words_of(words_of_scripts)
    def with_events(self, events: Any) -> Self:
        """Return a recommender that knows further events, as the service does after POST /events; this one stays.

        Histories and neighbours have them at once, and new users are known, too. What was learned stays: to learn from
        the events, `fit` to all. Until then, the result cannot be measured, saved or given new items.

        Args:
            events: a table as `fit` reads it. A warning names unknown items, whose events are left out, and counts rows
                that are dropped.

        Raises:
            ValueError: the table is unfit, or none of its ids are written as those of the log are.
        """
        log, new = self._log_with(events)
        return replace(self.with_log(log), later_events=self.later_events + new.height)

    def _log_with(self, table: Any) -> tuple[InteractionLog, pl.DataFrame]:
        """Return the log with the events of a table, and user_index, item_index and timestamp of these."""
        config = self.ingestion
        assert config is not None  # of a recommender that fit or load has made
        raw = _timed(read_tables({"events": table})["events"], config, self.log.last_second + 1)
        report, ids = CleaningReport(), [self.log.users.select("user_id"), self.log.items.select("item_id")]
        journal = pl.DataFrame(schema={"user_id": pl.String, "rating": pl.Float64, "timestamp": pl.Int64})
        known = pl.concat(ids, how="horizontal").lazy()
        cleaned = clean_new_events(raw, journal, known, config, report)
        _tell_of_dropped_rows(report)
        items = self.log.find_items(cleaned["item_id"], "events")
        cleaned, schema = cleaned.filter(items.is_not_null(), pl.col("rating").is_not_null()), self.log.sequences.schema
        names = [column.name for column in schema.declared]
        rows = cleaned.with_columns(pl.col("user_id", "item_id").cast(pl.String)).iter_rows(named=True)
        events = [
            Event("", **{name: row[name] for name in LOG_COLUMNS}, columns=schema.text({n: row[n] for n in names}, ""))
            for row in rows
        ]
        current = LiveLog(self.log, config, Content(events, {})).current()
        users, live = current.log.users[: current.n_named], current.log.sequences
        assert isinstance(live, LiveSequences)
        log = replace(current.log, users=users, sequences=live.settled(current.n_named))
        return log, with_indices(cleaned, user=users, item=log.items).select(EVENT)

    def _log_with_test(self, test: Any) -> InteractionLog:
        """Return the log with held-out events as the test split; its own are the training split."""
        log, held = self._log_with(test)
        own, events = self.log.sequences, log.sequences
        known = pl.DataFrame({name: getattr(own, name) for name in EVENT[1:]})
        known = known.with_columns(user_index=pl.Series(user_of_events(own.offsets)))
        has_times = self.ingestion is None or self.ingestion.interactions.timestamp != ROW
        if (both := held.join(known, on=EVENT if has_times else EVENT[:2], how="semi")).height:
            user, item = log.users["user_id"][both["user_index"][0]], log.items["item_id"][both["item_index"][0]]
            found = f"has {both.height:,} of its {held.height:,} events in the log, such as {item!r} of {user!r}"
            raise Fault("test", found, "what tests was not fitted to", "Fit the recommender to the other rows")
        user = user_of_events(events.offsets)
        ends = first_not_before(events.timestamp, events.timestamp, events.starts[user], events.ends[user])
        columns = {name: getattr(events, name) for name in (*EVENT[1:], "label")}
        samples = pl.DataFrame({"user_index": user, **columns, "history_end": ends}).with_row_index("event")
        samples = samples.with_columns(pl.col("event").cast(pl.Int64))
        tests = held.with_columns(split=pl.lit("test")).unique()
        samples = samples.join(tests, on=EVENT, how="left", maintain_order="left").with_row_index("row")
        return replace(log, samples=samples.with_columns(pl.col("split").fill_null("train")), repeats=None)

    def _require_scripts_own(self) -> None:
        if self.later_events:
            found = f"knows {self.later_events:,} events that its models have not learned from"
            raise Fault("This recommender", found, advice="Fit one to all events, or call the one before with_events")
        if self.lens is not None or "retriever" in self.sources:
            raise Fault(
                "This recommender",
                "reads a lens or a retriever, which only the catalog of its project holds",
                advice="Recommend there, or save one that was made by Recommender.fit",
            )

    @words_of(words_of_scripts)
    def evaluate(
        self,
        k: int = 10,
        likes: int | None = 2000,
        *,
        test: Any = None,
        frozen: bool = False,
        per_user: bool = False,
    ) -> pl.DataFrame:
        """Measure all methods on the test split, as fitted to the training split and asked at each like's moment.

        Args:
            k: length of the lists.
            likes: number of likes of the test split, drawn uniformly; None for all.
            test: held-out events of any other split, a table as `fit` reads it, of which the log has none: methods as
                fitted to the log are measured by its likes of items that are new to their users.
            frozen: whether each user has one list for all likes, of the end of the training, rather than one per like.
            per_user: whether to return user_id, method, the means of a user's likes, and likes (their number) instead.

        Returns:
            Frame with method, chosen (whether it is the one that recommends), a column for each metric of
            `list_metrics.ranking_metrics` with the ends of its interval, and likes (their number), the highest NDCG
            first.

        Raises:
            ValueError: the likes are of a single user, or the log has events of the test.
        """
        require_length("k", k)
        self._require_scripts_own()
        blocks = default_parameters(("ranking", "evaluation"), self.config.seed)
        log = self.log if test is None else self._log_with_test(test)
        blocks["ranking"] |= {"variant": None, "lens": False, "rows": likes, "cutoffs": (k,), "among_first": ()}
        training = Training.from_split(log)
        recommender, known = FittedRecommender.from_choice(training, self.choice, self.config), None
        if frozen:
            known = replace(log, sequences=log.sequences.where(training.is_training_event))
        else:
            recommender = recommender.as_measured(training)
        ranks = rank_test_likes(recommender, validated(RankingConfig, blocks, "ranking"), None, known)
        methods, metrics = ranks["model"].unique(maintain_order=True).to_list(), ranking_metrics()
        catalogue, bootstrap = Catalogue.from_log(log, training.is_training_event), Bootstrap(**blocks["bootstrap"])
        if per_user:
            averaged = [metric for metric in metrics if metric.per_row]
            means = pl.concat(
                user_means(own["user_index"], RankedLists.from_ranks(own, k, catalogue), averaged).with_columns(
                    method=pl.lit(name)
                )
                for name, own in zip(methods, ranks.partition_by("model", maintain_order=True), strict=True)
            )
            likes_of_users = ranks.filter(model=methods[0])["user_index"].value_counts(name="likes")
            means = means.join(likes_of_users, on="user_index", maintain_order="left")
            user_id = log.users["user_id"].gather(means["user_index"])
            return means.select(user_id, "method", *(metric.name for metric in averaged), "likes")
        records = compute_ranking_metrics(ranks, methods, catalogue, (k,), bootstrap, metrics=metrics)
        return _methods_table(records, self.choice, metrics)

    def save(self, folder: str | PathLike[str]) -> None:
        """Store the log and the choice as a whole, in safetensors, Arrow, parquet and JSON.

        Raises:
            FileExistsError: the folder exists.
            ValueError: it reads a lens or a retriever, which a project's catalog keeps.
        """
        folder = _folder(folder)
        self._require_scripts_own()
        if folder.exists():
            raise FileExistsError(f"{folder} exists: remove it, or save to another folder.")
        record: dict[str, Any] = {name: getattr(self, name).model_dump(mode="json") for name in ("config", "choice")}
        record["compared"] = None if self.compared is None else self.compared.to_dicts()
        record["ingestion"] = None if self.ingestion is None else self.ingestion.model_dump(mode="json", by_alias=True)
        with atomic_folder(folder) as draft:
            (draft / LOG_FOLDER).mkdir()
            self.log.save(draft / LOG_FOLDER)
            save_file(self.learned(), draft / WEIGHTS_FILE)
            (draft / SETTINGS_FILE).write_text(json.dumps(record, indent=1), encoding="utf-8")
            seal(draft)

    @classmethod
    def load(cls, folder: str | PathLike[str]) -> Self:
        """Read what `save` has stored, and fit the rest of the chosen models again, which makes the same lists.

        Raises:
            FileNotFoundError: the folder holds no recommender.
            ValueError: a file is missing, damaged or of another release.
        """
        folder = _folder(folder)
        file = folder / SETTINGS_FILE
        if not file.is_file() and not is_sealed(folder):
            raise FileNotFoundError(
                f"{folder} holds no {SETTINGS_FILE}: name a folder that Recommender.save has written."
            )
        if fault := damage(folder):
            advice = f"Restore a copy of {folder}, or fit the recommender again and save it, as after an update"
            raise Fault(fault, "", advice=advice)
        record = json.loads(file.read_text(encoding="utf-8"))
        try:
            config = RecommendationConfig.model_validate(record["config"])
            choice = Choice.model_validate(record["choice"])
            ingestion = record["ingestion"] and IngestionConfig.model_validate(record["ingestion"])
        except (KeyError, ValidationError) as error:
            raise Fault(str(file), "is of another release", advice=FIT_AGAIN) from error
        log, learned = InteractionLog.load(folder / LOG_FOLDER, mapped=False), load_file(folder / WEIGHTS_FILE)
        if unsound := [name for name, values in learned.items() if not np.isfinite(values).all()]:
            raise Fault(str(folder / WEIGHTS_FILE), f"has weights {unsound[0]} that are not finite", advice=FIT_AGAIN)
        compared = (
            None if record.get("compared") is None else pl.DataFrame(record["compared"], infer_schema_length=None)
        )
        loaded = cls.from_choice(Training.from_log(log, learned=learned), choice, config)
        return replace(loaded, compared=compared, ingestion=ingestion)


def _methods_table(
    records: Sequence[RankingRow], choice: Choice, metrics: Sequence[RankingMetric], further: Sequence[str] = ()
) -> pl.DataFrame:
    """Return records of methods as `Recommender.evaluate` does, the highest NDCG first."""
    lines = pl.DataFrame(records, infer_schema_length=None).select(
        pl.col("model").alias("method"),
        (pl.col("model") == choice.name).alias("chosen"),
        *columns_of(metrics),
        *further,
        pl.col("rows").alias("likes"),
    )
    return lines.sort("ndcg", descending=True, maintain_order=True)


def read_log(
    interactions: Any,
    items: Any,
    columns: Mapping[str, Any],
    blocks: dict[str, dict[str, Any]],
    settings: Mapping[str, Any],
) -> InteractionLog:
    """Clean tables, and build the log with vectors of its items; settings and what is missing change `blocks`."""
    if not isinstance(columns, Mapping):
        raise Fault("columns", ("is ", Value(columns)), "a dict of names is expected", USUAL_COLUMNS)
    declared = {name: value for name, value in columns.items() if isinstance(value, Mapping)}
    columns = {name: value for name, value in columns.items() if name not in declared}
    if unknown := [name for name in columns if name not in COLUMNS]:
        advice = "Rename it to one of these, or declare it as a further column: a dict with its kind"
        raise Fault("columns", f"names {unknown[0]!r}", f"only {', '.join(COLUMNS)} may have other names", advice)
    tables = read_tables({"raw_interactions": interactions} | ({} if items is None else {"raw_items": items}))
    raw, raw_items = tables["raw_interactions"], tables.get("raw_items")
    raw, columns = _with_joined_time(raw, columns)
    sources = {name: column.get("from", name) for name, column in declared.items()}
    unsaid = raw.drop(sources.values(), strict=False)  # whose meaning is told by their names
    block = _usual_columns(unsaid, raw_items, columns) or _guessed_columns(unsaid, raw_items, columns)
    for name, column in declared.items():
        if raw_items is None or sources[name] in raw.columns or sources[name] not in raw_items.columns:
            block["interactions"] = soft_merge(block["interactions"], {"columns": {name: column}})
        else:
            field = {"name": name, "column": sources[name], "kind": column.get("kind", "number")}
            block["items"]["fields"] = [*(each for each in block["items"]["fields"] if each["name"] != name), field]
    if block["interactions"]["timestamp"] in (None, ROW_NUMBER):
        block["interactions"]["timestamp"] = ROW
        block["plausible_times"] = {"first_day": "1970-01-01"}
    blocks["ingestion"] = soft_merge(blocks["ingestion"], block)
    if raw_items is None and (block["items"]["title"] or block["items"]["fields"]):
        raw_items = raw  # the log has the titles itself
    read, rating = block["interactions"], block["interactions"].get("rating")
    suiting = suiting_settings(
        is_rated=rating is not None,
        has_marks=bool(read.get("clicked") or read.get("impressions")),
        is_titled=block["items"]["title"] is not None,
        has_times="plausible_times" not in block,  # with it, times count from the log's beginning
        levels=raw[rating].n_unique() if rating in raw.columns else 0,
    )
    for suited in [*(yaml.safe_load(text)["history"] for text in suiting), OF_LISTS]:
        blocks["history"] = soft_merge(blocks["history"], suited)
    change_settings(blocks, settings, "Recommender.fit", UNREAD)
    ingestion, history = validated(IngestionConfig, blocks, "ingestion"), validated(HistoryConfig, blocks, "history")
    report, raw = CleaningReport(), _timed(raw, ingestion, 1)
    cleaned = clean_interactions(raw, ingestion, report)
    canonical = entities.describe_items(raw_items, cleaned, ingestion.items, report)
    users = entities.describe_users(None, cleaned, None, report)
    _tell_of_dropped_rows(report)
    if users.height < 2:
        raise Fault(
            Table("raw_interactions"),
            f"has one user, {users['user_id'][0]!r}",
            "recommendations need what several users took",
            ("Add the rows of others, or name another column in ", Parameter("ingestion.interactions.user_id")),
        )
    one_part = LOCAL.model_copy(update={"rows_per_part": max(LOCAL.rows_per_part, raw.height)})
    schema = ingestion.interactions.events
    log = build_log(cleaned, canonical, users, history, one_part, report, schema=schema)
    assert isinstance(log, InteractionLog)  # since it is one part
    if TFIDF in history.item_embedding.encoders and Texts.from_log(log) is None:
        return log
    encoders = _encoders(history.item_embedding, log)
    vectors = embed_items(describe_items(canonical), history.item_embedding, encoders, history.seed)
    log = log.with_embeddings(vectors.pop("embeddings"), vectors.pop("encoder_widths"))
    return replace(log, encoded=vectors)


def _log_of_items(log: InteractionLog, items: pl.DataFrame) -> InteractionLog:
    """Return a log with other items, which begin with its own; what embedded its items embeds new texts."""
    grown, vectors = replace(log, items=items), log.item_embeddings
    if vectors is None:
        return grown
    if not log.encoded:
        raise Fault("The log", "has item vectors, but not what they were made with", advice=FIT_AGAIN)
    encoders = bytes(log.encoded["encoders"]).decode().split("\n")
    block = default_parameters(("history",), None)["history"]["item_embedding"] | {"encoders": encoders}
    config = ItemEmbeddingConfig.model_validate(block)
    texts, texts_before = describe_items(items), describe_items(log.items)
    before = {**log.encoded, "embeddings": vectors, "encoder_widths": np.array(log.encoder_widths)}
    made = embed_new_items(texts, texts_before, before, config, _encoders(config, log))
    return grown.with_embeddings(made["embeddings"], log.encoder_widths)


def settings_of_base(seed: Any, sources: Any) -> dict[str, Any]:
    """Return the parameters of conf/base that `fit` reads, with an empty block for each source that has none."""
    blocks = default_parameters(STEPS, seed)
    blocks["ingestion"]["users"] = None  # there is no such table
    named = [str(source).rpartition(".")[2] for source in ([sources] if isinstance(sources, str) else sources)]
    del blocks["retriever"]  # of a model that only a project trains
    return {name: {} for name in named} | blocks


def _encoders(config: ItemEmbeddingConfig, log: InteractionLog) -> dict[str, Any]:
    """Return what the encoders read besides descriptions, by name.

    Raises:
        ValueError: one of them is an entry of a project's catalog.
    """
    loaded = dict[str, Any]()
    for name in config.with_input:
        if name == CO_OCCURRENCE:
            loaded[name] = log
        elif name == SENTENCE_ENCODER:
            from reclora_kedro.llm.sentence_encoder import load_sentence_encoder  # imports torch

            loaded[name] = load_sentence_encoder(**default_entry("encoders", name))
        else:
            known = f"Name some of {TFIDF}, {SENTENCE_ENCODER} and {CO_OCCURRENCE}"
            raise Fault("encoders", f"names {name!r}", "only a project's catalog has such an entry", known)
    return loaded


def _usual_columns(
    raw: pl.DataFrame, raw_items: pl.DataFrame | None, columns: Mapping[str, str | None]
) -> dict[str, Any] | None:
    """Return the block of ingestion by the usual names and `columns`; None if others may be meant."""
    named = {name: columns.get(name, name if name in raw.columns else None) for name in LOG_COLUMNS}
    has_others = bool({*raw.columns} - {*LOG_COLUMNS, "title", *columns.values()})
    is_complete = all(name in columns or named[name] for name in LOG_COLUMNS)
    if not (named["user_id"] and named["item_id"] and (is_complete or not has_others)):
        return None
    if raw_items is None:
        title = columns.get("title", "title" if "title" in raw.columns else None)
        choice = {} if title is None else {"title_choice": "most_frequent"}
        return {"interactions": named, "items": {"item_id": named["item_id"], "title": title, "fields": []} | choice}
    key = named["item_id"] if named["item_id"] in raw_items.columns else "item_id"
    title = columns.get("title", "title")
    if key not in raw_items.columns or not (title is None or title in raw_items.columns):
        return None
    fields = item_fields(RawTable(Path("items"), FRAME, raw_items), key, title)
    return {"interactions": named, "items": {"item_id": key, "title": title, "fields": fields}}


def _guessed_columns(
    raw: pl.DataFrame, raw_items: pl.DataFrame | None, columns: Mapping[str, str | None]
) -> dict[str, Any]:
    """Return the block of ingestion that names and values suggest, and say so; the usual names and `columns` stay.

    Raises:
        ValueError: the log has no two columns that may be users and items.
    """
    given = {name: columns.get(name, name) for name in LOG_COLUMNS if name in columns or name in raw.columns}
    known = {what: str(given[name]) for what, name in (("user", "user_id"), ("item", "item_id")) if given.get(name)}
    for name in {*known.values()} - {*raw.columns}:
        missing = f"has no column {name!r}, only: {', '.join(raw.columns)}"
        raise Fault(Table("raw_interactions"), missing, advice=USUAL_COLUMNS)
    log = RawTable(Path("interactions"), FRAME, raw.head(GLANCE), raw.height <= GLANCE)
    tables = [log, *([] if raw_items is None else [RawTable(Path("items"), FRAME, raw_items)])]
    found = guess(tables, lambda question, answers, guessed: guessed, log, known)
    block = ingestion_block(found)
    block["interactions"] |= given
    block["users"] = None
    if raw_items is not None and (found.items is None or found.items.in_log):
        some = ", ".join(map(repr, raw[found.log.item].head(3)))
        raise Fault(
            "items",
            f"has no column with ids of interactions[{found.log.item!r}], such as {some}",
            f"it has {', '.join(raw_items.columns)}",
            "Name the one that has them item_id, and write ids alike in both tables",
        )
    if "title" in columns:
        block["items"]["title"] = columns["title"]
    read = {"users": "user_id", "items": "item_id", "ratings": "rating", "clicks": "clicked", "times": "timestamp"}
    shown = [f"{what} {name!r}" for what, key in read.items() if (name := block["interactions"].get(key))]
    doubts = "".join(f" {text}." for label, text in found.log.doubts if label == "or else")
    logger.warning(
        "interactions is read as guessed: %s.%s%s Name others in columns.",
        ", ".join(shown),
        ""
        if found.items is None
        else f" Of items, the ids are {block['items']['item_id']!r}, and the titles {block['items']['title']!r}.",
        doubts,
    )
    return block


def _with_joined_time(raw: pl.DataFrame, columns: Mapping[str, Any]) -> tuple[pl.DataFrame, Mapping[str, Any]]:
    """Join columns of date and time by blanks, as a project's ingestion does; return what names the columns then.

    Raises:
        ValueError: another value is a list, or the list names a column that is missing.
    """
    time = columns.get("timestamp")
    if isinstance(time, list) and time and all(name in raw.columns for name in time):
        joined = " ".join(time)
        texts = pl.concat_str(pl.col(time).cast(pl.String), separator=" ")
        raw, columns = raw.with_columns(texts.alias(joined)).drop({*time} - {joined}), {**columns, "timestamp": joined}
    for name, value in columns.items():
        if isinstance(value, list | set):
            expected = (
                f"the name of a column is expected, or for timestamp a list of such names: {', '.join(raw.columns)}"
            )
            raise Fault(f'columns["{name}"]', f"is {value!r}", expected)
    return raw, columns


def _timed(raw: pl.DataFrame, config: IngestionConfig, first: int) -> pl.DataFrame:
    """Return a table with the column of the time: of rows without times, their numbers, from the first on."""
    name = config.interactions.timestamp
    if name == ROW:
        return raw.with_columns(pl.int_range(first, pl.len() + first).alias(ROW))
    if isinstance(name, str) and " " in name and name not in raw.columns:
        raw, _ = _with_joined_time(raw, {"timestamp": name.split()})
    if isinstance(name, str) and config.interactions.timestamp_format in UNIX_UNITS:
        return _with_dates(raw, name)
    return raw


def _with_dates(raw: pl.DataFrame, name: str | None) -> pl.DataFrame:
    """Read texts in the column of the time as dates and times, if the year comes first.

    Raises:
        ValueError: others need a format that says what is the day and what the month.
    """
    if name is None or raw.schema.get(name) != pl.String:
        return raw
    text = raw[name].str.strip_chars().replace("", None)
    if text.cast(pl.Float64, strict=False).is_null().equals(text.is_null()):
        return raw  # seconds that are written as text
    times = pl.repeat(None, len(text), dtype=pl.Datetime, eager=True)
    with suppress(pl.exceptions.ComputeError):  # no value is a date
        times = text.set(~text.str.contains(YEAR_FIRST), None).str.to_datetime(strict=False)
    unfit = (times.is_null() & text.is_not_null()).arg_true()
    if len(unfit):
        raise Fault(
            Column(name, Table("raw_interactions")),
            f"holds {text[unfit[0]]!r} in row {unfit[0] + 1:,}",
            "seconds since 1970 are expected, or dates such as 2022-01-31 or 2022-01-31 23:59",
            "Set `timestamp_format`, such as '%d/%m/%Y' or '%m/%d/%Y %H:%M', or correct the file",
        )
    return raw.with_columns(times.alias(name))


def _tell_of_dropped_rows(report: CleaningReport) -> None:
    dropped = [each for each in report.records() if each["rows"] and each["rule"].startswith("dropped")]
    if dropped:
        counts = "; ".join(f"{each['check']}: {each['rows']:,}" for each in dropped)
        logger.warning("%s rows were dropped: %s.", f"{sum(each['rows'] for each in dropped):,}", counts)


def _warn_of_unknown(argument: str, found: pl.DataFrame, then: str) -> None:
    if len(unknown := found.filter(pl.col("index").is_null())["given"].unique(maintain_order=True)):
        logger.warning("%s has %d unknown ids, %s: %s.", argument, len(unknown), then, names(unknown))


def _item_indices(log: InteractionLog, ids: Any, argument: str) -> np.ndarray:
    return log.find_items(ids, argument).drop_nulls().to_numpy().astype(np.int64)


def _items_by_user(log: InteractionLog, items: Any, users: Sequence[Any], argument: str) -> dict[Any, np.ndarray]:
    """Return the indices of the items of each user, by the id that the log has."""
    if not isinstance(items, Mapping):
        return dict.fromkeys(users, _item_indices(log, items, argument))
    of_users = _by_user(log, items, users)
    return {user: _item_indices(log, own, argument) for user, own in of_users.items()}


def _by_user(log: InteractionLog, values: Mapping[Any, V], users: Sequence[Any]) -> dict[Any, V]:
    """Return the value of each user, by the id that the log has."""
    own, asked = dict[Any, V](), {*users}
    for user, value in values.items():
        known = [user] if user in asked else log.find_users([user])["user_id"].to_list()
        own |= dict.fromkeys(known, value)
    return own


def _lengths(log: InteractionLog, n: Any, users: Sequence[Any]) -> list[int]:
    """Return the length of each user's list; ValueError if one has none."""
    of_users = _by_user(log, n, users) if isinstance(n, Mapping) else dict.fromkeys(users, n)
    for length in [*of_users.values()] or [n]:
        require_length("n", length)
    if missing := [user for user in users if user not in of_users]:
        raise Fault("n", f"has no length for user {missing[0]!r}", "each has one", "Name all users, or give one number")
    return [of_users[user] for user in users]


def _require_repeat(repeat: Any) -> None:
    if repeat not in (None, True, False):
        raise Fault("repeat", f"is {repeat!r}", "it must be True, False, or None as in the settings")


def require_length(name: str, length: int) -> None:
    if isinstance(length, bool) or not isinstance(length, Integral) or length < 1:
        raise Fault(name, f"is {length!r}", "the length of a list is a whole number, and at least 1")


def _folder(path: str | PathLike[str]) -> Path:
    if not isinstance(path, str | PathLike) or not str(path):
        raise Fault("folder", f"is {path!r}", "it must be the path of a folder")
    if files := [each for each in Path(path).absolute().parents if each.is_file()]:
        raise NotADirectoryError(f"{path} cannot be a folder, as {files[0]} is a file: name another folder.")
    return Path(path)


def validated(kind: type[T], blocks: Mapping[str, Any], name: str) -> T:
    """Return the block of parameters of a name; raise Faults of wrong values."""
    block = blocks.get(name, {})
    try:
        return kind.model_validate(block)
    except ValidationError as error:
        raise value_faults(error, block, name, [*parameter_paths(blocks)]) from error
