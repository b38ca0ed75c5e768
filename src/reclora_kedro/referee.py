"""A referee: measures lists that anybody made, beside models that it fits to the same rows, and audits them."""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console

from kedro_provenance.errors import Fault, words_of
from kedro_provenance.files.atomic import atomic_file
from reclora_kedro.api import read_log, require_length, settings_of_base, validated, words_of_scripts
from reclora_kedro.candidates.item_model import Training, choose_settings
from reclora_kedro.candidates.linear import Linear, LinearConfig, Texts
from reclora_kedro.candidates.moments import NO_ITEM
from reclora_kedro.errors import Table
from reclora_kedro.evaluation import formats
from reclora_kedro.evaluation.bootstrap import Bootstrap, holm
from reclora_kedro.evaluation.metric import columns_of
from reclora_kedro.history.config import TFIDF
from reclora_kedro.history.fields import describe_items
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.sequences import user_of_events
from reclora_kedro.ingestion.ids import look_up
from reclora_kedro.ingestion.tables import read_tables
from reclora_kedro.recommendation import list_metrics
from reclora_kedro.recommendation.chosen import Choice
from reclora_kedro.recommendation.config import RecommendationConfig
from reclora_kedro.recommendation.item_ranks import draw
from reclora_kedro.recommendation.list_metrics import Catalogue, RankedLists
from reclora_kedro.recommendation.ranking_metrics import compute_ranking_metrics
from reclora_kedro.recommendation.recommender import FittedRecommender
from reclora_kedro.terminal import Columns, text_table

logger = logging.getLogger(__name__)

LISTS, BY_IDS, WITH_TEXTS = "lists", "closed form, ids alone", "closed form, with texts"
ACCURACY = (list_metrics.HIT_RATE, list_metrics.NDCG, list_metrics.MRR)
OF_LISTS = (list_metrics.NOVELTY, list_metrics.POPULARITY, list_metrics.TAIL_SHARE)
PAIR = ["user_index", "item_index"]
UNKNOWN = -2  # place of a list with an item outside the catalogue
Audit = list[tuple[str, Any, int, str]]


@dataclass(frozen=True)
class Measured:
    """What the referee says of lists, in three frames."""

    metrics: pl.DataFrame  # of the lists and of each model, with the ends of intervals over users
    differences: pl.DataFrame  # NDCG of the lists less that of each model, paired by user; p_adjusted by Holm
    audit: pl.DataFrame  # check, count, of (how many there could be), and how to read it

    def __str__(self) -> str:
        by_model: dict[str, tuple[Any, ...]] = {each.title: (each.estimate, *columns_of([each])) for each in ACCURACY}
        by_model |= {name: (formats.metric, name) for name in ("coverage", "popularity")}
        less: Columns = {
            "NDCG of the lists minus its": (formats.signed_estimate, *self.differences.columns[1:4]),
            "adjusted p": (formats.p_value, "p_adjusted"),
        }
        counted: Columns = {"count": (formats.count, "count"), "of": (formats.count, "of")}
        read: Columns = {"check": (str, "check"), "reading": (str, "reading")}
        likes = f"{self.metrics['rows'][0]:,} test likes of {self.metrics['users'][0]:,} users, with 95% intervals"
        console = Console(markup=False, emoji=False)
        with console.capture() as captured:
            console.print(text_table(likes, self.metrics.to_dicts(), {"model": (str, "model")}, by_model))
            console.print(text_table("Differences", self.differences.to_dicts(), {"model": (str, "baseline")}, less))
            console.print(text_table("Audit of the lists", self.audit.to_dicts(), read, counted))
        return captured.get()

    def save(self, path: str | PathLike[str]) -> None:
        """Write the tables as JSON: a list of rows by the name of each."""
        tables = {name: table.to_dicts() for name, table in vars(self).items()}
        atomic_file(Path(path), json.dumps(tables, indent=1).encode())


@words_of(words_of_scripts)
def measure(
    lists: Any,
    log: Any,
    items: Any = None,
    *,
    split: Any = "last",
    k: int = 10,
    columns: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Measured:
    """Measure lists by likes that were not known when they were made, beside models fitted to the other rows.

    Args:
        lists: frame or file with user_id, item_id and rank (or user and item), the lowest rank first; made from the
            log's known rows alone.
        log: as `Recommender.fit` takes it, with the rows that test; items, columns and settings as there.
        split: what tests. ``last``: each user's last like of a new item; ``time``: likes of the log's last tenth, by
            the shares of `history.split`; or a frame or file of user_id and item_id, whose rows count as unknown.
        k: length of the lists; later places count for nothing.

    Raises:
        ValueError: a table or a setting is unfit, or the likes that test are of fewer than two users.
    """
    require_length("k", k)
    blocks = settings_of_base(settings.pop("seed", None), ())
    full = read_log(log, items, columns or {}, blocks, {"encoders": [TFIDF]} | settings)
    config = validated(RecommendationConfig, blocks, "recommendation")
    shares = blocks["history"]["split"]
    known, held, audit = _split(full, split, config, shares["train"] + shares["validation"])
    users = held.select("user_index").unique(maintain_order=True)
    places, audit_of_lists = _places(lists, known, users["user_index"].to_numpy(), k, config.repeat)
    made = {LISTS: places} | dict(_models(known, users, config, validated(LinearConfig, blocks, "linear"), k))
    ranks = {name: _ranks(name, held, users, each) for name, each in made.items()}
    metrics, differences = _compared(ranks, known, k, Bootstrap(**blocks["bootstrap"]))
    hits, reading = int(ranks[LISTS]["rank"].count()), "the hits"
    if not hits:
        reading = "no hit: lists that were made with the test likes leave their items out"
        logger.warning("No list has a test like: make the lists without the likes that test them.")
    audit = [("test likes on their user's list", hits, held.height, reading), *audit, *audit_of_lists]
    return Measured(metrics, differences, pl.DataFrame(audit, ["check", "count", "of", "reading"], orient="row"))


def _named(table: Any, name: str, wanted: tuple[str, ...]) -> pl.DataFrame:
    """Read a table, whose columns of users and items may also be called user and item."""
    frame = read_tables({name: table})[name]
    frame = frame.rename({"user": "user_id", "item": "item_id"}, strict=False)
    if missing := [column for column in wanted if column not in frame.columns]:
        found = f"has the columns {', '.join(frame.columns)}, but no {missing[0]}"
        raise Fault(Table(name), found, f"{', '.join(wanted)} are expected", "Rename its columns")
    return frame


def _indexed(frame: pl.DataFrame, log: InteractionLog, name: str) -> pl.DataFrame:
    """Return a table with user_index and item_index, null for what the log lacks."""
    user = look_up(frame["user_id"], log.users["user_id"], f"user_id of {name}")["index"]
    item = look_up(frame["item_id"], log.items["item_id"], f"item_id of {name}")["index"]
    return frame.with_columns(user.alias("user_index"), item.alias("item_index"))


def _split(
    log: InteractionLog, split: Any, config: RecommendationConfig, share: float
) -> tuple[InteractionLog, pl.DataFrame, Audit]:
    """Return the log of the known events, and the likes that test: user_index and item_index."""
    sequences, rules, rows = log.sequences, config.rules_of(log.items), ["event"] if config.repeat else PAIR
    columns = {name: getattr(sequences, name) for name in ("item_index", "label", "timestamp")}
    events = pl.DataFrame({"user_index": user_of_events(sequences.offsets)} | columns).with_row_index("event")
    likes = events.unique(rows, keep="first", maintain_order=True).filter(pl.col("label") == 1)
    likes = likes.filter(~np.isin(likes["item_index"].to_numpy(), rules.excluded))
    audit = Audit()
    if isinstance(split, str) and split == "last":
        held = likes.unique("user_index", keep="last", maintain_order=True)
        tied = events.join(held, on=["user_index", "timestamp"], how="semi").height - held.height
        note = "the lists may have been made without another one of these: name the test rows in a file"
        audit.append(("events in the same second as the test like", tied, events.height, note))
    elif isinstance(split, str) and split == "time":
        if not log.shared_clock:
            raise Fault("split", "is 'time', but the log has no times", advice="Set it to 'last', or name a file")
        start = np.sort(columns["timestamp"])[min(int(share * events.height), events.height - 1)]
        held, events = likes.filter(pl.col("timestamp") >= start), events.filter(pl.col("timestamp") < start)
    else:
        named = _indexed(_named(split, "split", ("user_id", "item_id")), log, "split").unique(PAIR, maintain_order=True)
        held, rows = named.drop_nulls(PAIR).select(PAIR), PAIR
        unread = named.height - held.height
        audit.append(("rows of the split with an unknown user or item", unread, named.height, "left out"))
    known = events.join(held, on=rows, how="anti", maintain_order="left")
    of_users = held.height
    held = held.join(known.select("user_index").unique(), on="user_index", how="semi").sort(PAIR)
    if held["user_index"].n_unique() < 2:
        found = f"leaves likes of {held['user_index'].n_unique()} user(s) with known events"
        raise Fault("split", found, "at least 2 are needed for the bootstrap over users", "Give a longer log")
    audit.append(("test likes of users without other events", of_users - held.height, of_users, "left out"))
    is_new = ~held["item_index"].is_in(known["item_index"].unique().implode())
    audit.append(
        ("test likes of items without other events", is_new.sum(), held.height, "models of ids cannot retrieve them")
    )
    if log.items["title"].n_unique() > 1:
        twins = log.items["title"].is_duplicated().gather(held["item_index"]).sum()
        note = "a list with the other item counts as a miss"
        audit.append(("test likes of items with the title of another item", twins, held.height, note))
    is_known = np.zeros(len(sequences.timestamp), dtype=bool)
    is_known[known["event"].to_numpy()] = True
    cut = replace(log, sequences=sequences.where(is_known), samples=log.samples.clear(), repeats=None)
    return cut, held.select(PAIR), audit


def _places(lists: Any, log: InteractionLog, users: np.ndarray, k: int, may_repeat: bool) -> tuple[np.ndarray, Audit]:
    """Return the items of the first k places of each user's list, padded with `NO_ITEM`, and what is odd about them."""
    given = _indexed(_named(lists, "lists", ("user_id", "item_id", "rank")), log, "lists")
    rank = given["rank"].cast(pl.Float64, strict=False)
    if (unfit := ~rank.is_finite().fill_null(False)).any():
        row = int(unfit.arg_true()[0])
        raise Fault(Table("lists"), f"has the rank {given['rank'][row]!r} in row {row + 1:,}", "a number is expected")
    is_tested = given["user_index"].is_in(users).fill_null(False)
    own = given.with_columns(rank).filter(is_tested).sort("rank", maintain_order=True)
    equal = [pl.struct("user_index", name).is_duplicated() for name in ("rank", "score") if name in own.columns]
    own = own.with_columns(place=pl.int_range(pl.len()).over("user_index"), tied=pl.any_horizontal(equal))
    own = own.filter(pl.col("place") < k)  # after ties are told: one with a later place decides which item is listed
    items, row_of = np.full((len(users), k), NO_ITEM), np.zeros(log.users.height, dtype=np.int64)
    row_of[users] = np.arange(len(users))
    rows, indices = row_of[own["user_index"].to_numpy()], own["item_index"].fill_null(UNKNOWN).to_numpy()
    items[rows, own["place"].to_numpy()] = indices
    inside, sizes = own.drop_nulls("item_index"), (items != NO_ITEM).sum(axis=1)
    total, misses = own.height, "cannot hit"
    pairs, most = inside.unique(PAIR), inside.unique(PAIR)["item_index"].value_counts()["count"].max() or 0
    taken = pl.DataFrame({"user_index": user_of_events(log.sequences.offsets), "item_index": log.sequences.item_index})
    again = inside.join(taken, on=PAIR, how="semi").height
    titled = pairs.with_columns(title=log.items["title"].gather(pairs["item_index"])).drop_nulls("title")
    twins = titled.filter(pl.struct("user_index", "title").is_duplicated()).height
    written = inside.select("item_index", pl.col("item_id").cast(pl.String)).unique()
    spellings = written.filter(pl.col("item_index").is_duplicated())["item_index"].n_unique()
    return items, [
        ("users without a list", int((sizes == 0).sum()), len(users), "each of their likes is a miss"),
        (
            f"lists of fewer than {k} items",
            int(((sizes > 0) & (sizes < k)).sum()),
            len(users),
            "they have fewer chances of a hit",
        ),
        ("rows of users who are not tested", given.height - is_tested.sum(), given.height, "are not read"),
        ("repeated items in a list", inside.height - pairs.height, total, misses),
        ("listed items that the user took", again, total, "is allowed" if may_repeat else misses),
        ("listed items outside the catalogue", total - inside.height, total, misses),
        ("equal ranks or scores in a list", own["tied"].sum(), total, "the order of the file decides"),
        ("items whose id is written in several ways", spellings, inside["item_index"].n_unique(), "read as one"),
        ("listed items with the title of another one", twins, total, "editions, or one item with two ids"),
        ("lists with the most frequent item", most, len(users), "near all: everybody gets the same"),
    ]


def _models(
    known: InteractionLog, users: pl.DataFrame, config: RecommendationConfig, linear: LinearConfig, k: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the items of lists by models that are fitted to the known events, by name: (users, k)."""
    events = known.sequences
    last = events.ends[np.diff(events.offsets) > 1] - 1
    last = last[events.label[last] == 1]
    likes = pl.DataFrame({"user_index": user_of_events(events.offsets)[last], "item_index": events.item_index[last]})
    likes = likes.with_columns(history_end=pl.Series(last), timestamp=pl.Series(events.timestamp[last]))
    likes = draw(likes, config.validation_likes, config.seed)
    learns = np.ones(len(events.timestamp), dtype=bool)
    learns[likes["history_end"].to_numpy()] = False
    training, every, rules = Training(known, learns), Training.from_log(known), config.rules_of(known.items)
    choices = {"popularity": Choice(kind="popularity", order="candidates", sources={"popularity": {}})}
    has_texts = describe_items(known.items) != known.items["item_id"].cast(pl.String).to_list()
    texts = {WITH_TEXTS: linear} if has_texts and Texts.from_log(known) is not None else {}
    for name, block in ({BY_IDS: linear.model_copy(update={"text_weights": ()})} | texts).items():
        settings = choose_settings(Linear, training, block, likes, rules).model_dump(mode="json")
        choices[name] = Choice(kind="linear", order="candidates", sources={"linear": settings})
    for name, choice in choices.items():
        recommender = FittedRecommender.from_choice(every, choice, config)
        yield name, recommender.best_lists(recommender.moments(known.now(users)), k).items


def _ranks(model: str, held: pl.DataFrame, users: pl.DataFrame, places: np.ndarray) -> pl.DataFrame:
    """Return the rank of each like in its user's list, as `rank_likes` has them."""
    lists = pl.Series(places.astype(np.int32)).cast(pl.List(pl.Int32))
    ranks = held.with_row_index("row").join(users.with_columns(list=lists), on="user_index", maintain_order="left")
    is_own = np.stack(ranks["list"].to_list()) == ranks["item_index"].to_numpy()[:, None]
    rank = pl.Series("rank", np.where(is_own.any(axis=1), is_own.argmax(axis=1) + 1, 0)).replace(0, None)
    top = ranks["list"].list.eval(pl.element().filter(pl.element() >= 0).unique(maintain_order=True)).alias("top_items")
    return ranks.select(pl.lit(model).alias("model"), "row", *PAIR, rank, pl.lit(0).alias("candidates"), top)


def _compared(
    ranks: Mapping[str, pl.DataFrame], log: InteractionLog, k: int, bootstrap: Bootstrap
) -> tuple[pl.DataFrame, pl.DataFrame]:
    catalogue = Catalogue.from_log(log, np.ones(len(log.sequences.timestamp), dtype=bool))
    metrics, differences, models = list[Any](), list[Any](), [name for name in ranks if name != LISTS]
    for name in models:
        pair = pl.concat([ranks[LISTS], ranks[name]])
        lists, model = compute_ranking_metrics(pair, [name], catalogue, (k,), bootstrap, metrics=ACCURACY)
        metrics, differences = metrics or [lists], [*differences, lists]
        metrics.append(model)
    for record, own in zip(metrics, (ranks[record["model"]] for record in metrics), strict=True):
        whole = RankedLists.from_ranks(own.filter(pl.col("top_items").list.len() > 0), k, catalogue)
        record |= {each.name: np.mean(each.per_row(whole)) for each in OF_LISTS if each.per_row}
    paired = pl.DataFrame(differences).select("baseline", "^ndcg_difference.*$", "p_value")
    columns = ("model", "rows", "users", *columns_of(ACCURACY), "coverage", *(each.name for each in OF_LISTS))
    adjusted = pl.Series("p_adjusted", holm(paired["p_value"].to_numpy()))
    return pl.DataFrame(metrics).select(columns), paired.with_columns(adjusted)
