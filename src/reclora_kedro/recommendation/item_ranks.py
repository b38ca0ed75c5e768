"""Ranks of the items that users took, in the lists of several methods at the moments of their likes."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from kedro_provenance.errors import NULL, Fault, Parameter, Phrase, Value, worded
from reclora_kedro.candidates.moments import NO_ITEM, Moments
from reclora_kedro.distributed.engine import LOCAL, EngineConfig, map_shards
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.questions import MOMENT, questions
from reclora_kedro.history.taken_items import draw_positives, taken_before
from reclora_kedro.recommendation.config import Protocol, RankingConfig
from reclora_kedro.recommendation.second_stage import LensModel, ListMaker

if TYPE_CHECKING:
    from reclora_kedro.lens.base import Lens
    from reclora_kedro.lens.states import LensReader
    from reclora_kedro.recommendation.recommender import FittedRecommender

logger = logging.getLogger(__name__)

LIKES_AT_ONCE = 128  # in a shard
WITHOUT_RULES = "without_rules"  # the chosen method as it would be: what `recommendation.rules` cost


def rank_test_likes(
    recommender: "FittedRecommender",
    config: RankingConfig,
    lens: "LensReader | None",
    frozen: InteractionLog | None = None,
) -> pl.DataFrame:
    """Rank drawn likes of the test split by all methods, see `rank_likes`.

    A frozen log, of the events until then, asks models at its end for all likes: each user has one list.

    The lens ranks all items, as ``lens``, and what each method finds first, as ``item_knn_lens`` and so on. Under rules
    that order lists, the chosen method without them is ranked as well.

    Fault is raised for likes of a single user, and where `config.baseline` names no method.
    """
    log = recommender.log
    list_makers, choice = recommender.list_makers("candidates"), recommender.choice
    if any(rule.moves for rule in recommender.config.rules):
        list_makers[WITHOUT_RULES] = recommender.list_maker(choice.kind, choice.order, under_rules=False)
    if lens is not None:
        list_makers |= recommender.list_makers("lens") | {"lens": LensModel(lens)}
    if config.baseline is not None and config.baseline not in list_makers:
        raise Fault(
            Parameter("ranking.baseline"),
            f"is {config.baseline!r}",
            f"the models that rank are {', '.join(list_makers)}",
            ("Name one of these, or write ", NULL, " to compare with the best"),
        )
    likes = draw_positives(log, "test", config.rows, config.seed, recommender.rules)
    if (users := likes["user_index"].n_unique()) < 2:
        least, split, limit = Parameter("history.min_history"), Parameter("history.split"), Parameter("ranking.rows")
        advice: Phrase = "Lower ", least, ", or leave more samples to the test split by ", split
        if likes.height == config.rows:
            advice = "Raise ", limit, ", or write ", NULL, " to take all"
        found = "is ", Value(config.rows), f", which draws likes of {users} user(s), of items that are new to them"
        raise Fault(limit, found, "at least 2 are needed for the bootstrap over users", advice)
    allowed = None
    if config.candidates != "full":
        allowed = sampled_items(log, likes, config.candidates, config.seed)
    requests = moments_of(likes, log, recommender.config.protocol)
    if frozen is not None:
        recommender, requests = replace(recommender, log=frozen), frozen.now(likes)
        may_be_listed = recommender.rules.repeat | ~taken_before(frozen.sequences, requests)
        likes, requests = likes.filter(may_be_listed), requests.filter(may_be_listed)
    most = max(recommender.config.shortlist, *config.cutoffs, *config.among_first)
    return rank_likes(list_makers, recommender.moments(requests, allowed=allowed), likes, most)


def lens_reader(lens: "Lens", log: InteractionLog, protocol: Protocol) -> "LensReader | None":
    """Return what reads the log with the lens at `moments_of` likes; None where it would count what a protocol hides.

    The lens counts all events of the log before a moment. A split per user holds out events, the likes' own among
    them, before the end of the training split, at which the published protocol asks.
    """
    from reclora_kedro.lens.states import LensReader

    if protocol == "published":
        held_out = log.sequences.timestamp[~log.training_events()]
        if (held_out <= _end_of_training(log)).any():
            protocol_, kind = Parameter("recommendation.protocol"), Parameter("history.split.kind")
            why = " held-out events of others, which the lens counts, lie before the end of the training split."
            logger.warning(worded("The lens is left out: ", protocol_, " is published, and by ", kind, why))
            return None
    return LensReader(lens, log)


def moments_of(likes: pl.DataFrame, log: InteractionLog, protocol: Protocol) -> pl.DataFrame:
    """Return likes with the times at which models are asked.

    Under the protocol live, that is each like's own, as in a service. Under the published one, it is the end of the
    training split for all: models know each user's history, and neither the time of a like nor what others did since.
    """
    if protocol == "live":
        return likes
    return likes.with_columns(timestamp=pl.lit(_end_of_training(log) + 1, dtype=likes.schema["timestamp"]))


def _end_of_training(log: InteractionLog) -> int:
    seconds = log.samples_in("train", "timestamp")["timestamp"].to_numpy()
    if not len(seconds):
        raise Fault(
            Parameter("recommendation.protocol"),
            "is published, which measures models at the end of the training split",
            "this split has no samples",
            ("Lower ", Parameter("history.min_history"), ", so that shorter histories are samples, or set it to live"),
        )
    return int(seconds.max())


def rank_likes(
    list_makers: Mapping[str, ListMaker],
    moments: Moments,
    likes: pl.DataFrame,
    limit: int,
    engine: EngineConfig = LOCAL,
) -> pl.DataFrame:
    """Rank the item of each like in the lists of several methods, each at the like's own moment.

    Moments are one per like, which may get its item; likes have row, item_index and the columns of `MOMENT`.

    Returns:
        One line per like and method: model, row, user_index, item_index (the like's own), history_end, timestamp, rank
        (from 1, null if the list lacks the item), candidates (number of items that it may get) and top_items (indices
        of the list's items).
    """
    blocks = [slice(start, start + LIKES_AT_ONCE) for start in range(0, likes.height, LIKES_AT_ONCE)]
    parts = list(map_shards(partial(_rank_block, list_makers, moments, likes, limit), blocks, engine, "rank"))
    return pl.concat([part[model] for model in list_makers for part in parts])


def _rank_block(
    list_makers: Mapping[str, ListMaker], moments: Moments, likes: pl.DataFrame, limit: int, rows: slice
) -> dict[str, pl.DataFrame]:
    block, own = moments[rows], likes[rows]
    counts = _candidates(block)
    return {name: _ranked(name, own, each.top(block, limit).items, counts) for name, each in list_makers.items()}


def draw(likes: pl.DataFrame, rows: int | None, seed: int | list[int]) -> pl.DataFrame:
    """Draw likes uniformly, in their order; None for all."""
    return likes[np.sort(np.random.default_rng(seed).permutation(likes.height)[:rows])]


def sampled_items(log: InteractionLog, likes: pl.DataFrame, limit: int, seed: int) -> list[np.ndarray]:
    """Draw items for each like that its history lacks, with its own, independently of the other likes."""
    items, chosen = log.items.height, []
    for row, user, end, target in likes.select("row", "user_index", "history_end", "item_index").iter_rows():
        random = np.random.default_rng([seed, row])
        own_items = np.union1d(log.sequences.item_index[log.sequences.starts[user] : end], [target])
        # As many more as can be taken: what is left is a uniform draw of the rest.
        drawn = random.choice(items, size=min(items, limit + len(own_items)), replace=False)
        chosen.append(np.append(drawn[~np.isin(drawn, own_items)][:limit], target))
    return chosen


def reranking_questions(item_ranks: pl.DataFrame, first_stage: str, shortlist: int) -> pl.DataFrame:
    """Return the distinct questions of a second stage: the first stage's `shortlist` best items at each moment."""
    lists = item_ranks.filter(model=first_stage).select(*MOMENT, item_index=pl.col("top_items").list.head(shortlist))
    return questions(lists.explode("item_index").unique(maintain_order=True).with_row_index("row"))


def rerank(
    item_ranks: pl.DataFrame, scores: pl.DataFrame, first_stage: str, shortlist: int, model: str
) -> pl.DataFrame:
    """Rank each like by a model's scores in the shortlist, and by the first stage after it, as in `item_ranks`."""
    if not scores["score"].is_finite().all():
        raise ValueError(f"{model}: some of the {scores.height} scores are not numbers; train it again.")
    first = item_ranks.filter(model=first_stage)
    lists = first.select("row", *MOMENT, item_index=pl.col("top_items").list.head(shortlist)).explode("item_index")
    keys, by_score = (
        [*MOMENT, "item_index"],
        pl.col("item_index").sort_by("score", descending=True, maintain_order=True),
    )
    scored = lists.join(scores.select(*keys, "score"), on=keys, how="left", maintain_order="left")
    order = scored.group_by("row", maintain_order=True).agg(order=by_score)
    joined = first.join(order, on="row", how="left", maintain_order="left")
    items = pl.concat_list("order", pl.col("top_items").list.slice(shortlist))
    joined = joined.with_columns(model=pl.lit(model), top_items=items)
    places = joined.select("row", "item_index", place="top_items").explode("place")
    places = places.with_columns(rank=pl.int_range(1, pl.len() + 1).over("row"))
    own = places.filter(pl.col("place") == pl.col("item_index")).select("row", "rank")
    joined = joined.drop("rank").join(own, on="row", how="left", maintain_order="left")
    return joined.select(item_ranks.columns)


def _candidates(moments: Moments) -> np.ndarray:
    """Return the number of items that each row may get, shape (moments,)."""
    pairs = zip(map(np.unique, moments.hidden), moments.allowed, strict=True)
    counts = [moments.items - len(out) if only is None else (~np.isin(only, out)).sum() for out, only in pairs]
    return np.array(counts)


def _ranked(model: str, likes: pl.DataFrame, items: np.ndarray, candidates: np.ndarray) -> pl.DataFrame:
    is_own = items == likes["item_index"].to_numpy()[:, None]
    rank = pl.Series(np.where(is_own.any(axis=1), is_own.argmax(axis=1) + 1, 0), dtype=pl.Int64)
    top = pl.Series(items.astype(np.int32)).cast(pl.List(pl.Int32))
    columns = ("row", "user_index", "item_index", "history_end", "timestamp")
    counts = pl.Series("candidates", candidates, dtype=pl.Int64)
    top = top.list.eval(pl.element().filter(pl.element() != NO_ITEM)).alias("top_items")
    return likes.select(pl.lit(model).alias("model"), *columns, pl.when(rank > 0).then(rank).alias("rank"), counts, top)
