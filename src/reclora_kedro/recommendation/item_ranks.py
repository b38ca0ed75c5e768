"""Ranks of the items that users took, among the candidates of that moment, by models without an LLM."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from time import perf_counter

import numpy as np
import polars as pl

from kedro_provenance.parameters import Block
from reclora_kedro.baselines.base import Scorer
from reclora_kedro.baselines.registry import BASELINES
from reclora_kedro.candidates.base import Retriever
from reclora_kedro.candidates.reader import RetrieverReader
from reclora_kedro.history.item_facts import ItemFacts
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.questions import MOMENT
from reclora_kedro.history.taken_items import draw_positives
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.states import LensReader
from reclora_kedro.progress import Progress
from reclora_kedro.recommendation.config import RANKED, RERANKED, RankingConfig
from reclora_kedro.recommendation.features import CandidateReader
from reclora_kedro.recommendation.reranking import rerank, reranking_questions
from reclora_kedro.recommendation.second_stage import SecondStage
from reclora_kedro.recommendation.sources import lens_scorer, source_scorers

logger = logging.getLogger(__name__)

PAIRS_AT_ONCE = 2**18  # pairs of user and item that are scored between two moves of the progress bar
NO_ITEM = -1


def rank_positives(
    log: InteractionLog,
    config: RankingConfig,
    settings: Mapping[str, Block],
    lens: Lens | None = None,
    retriever: Retriever | None = None,
) -> tuple[pl.DataFrame, SecondStage]:
    """Rank likes of the test split by the baselines that rank items, a lens and a retriever; see `rank_by`.

    The sources among them are also combined, as ``fusion`` and ``ranker``, by the second stage, which is trained on
    validation likes and returned with the ranks. The lens ranks all candidates, as ``lens``, and the shortlist of each
    source, as ``neighbours_lens`` and so on.

    Raises:
        MismatchError: lens, retriever and log stem from different runs.
        ValueError: the likes are of a single user.
    """
    likes = draw_positives(log, "test", config.users, config.rows, config.seed)
    if (users := likes["user_index"].n_unique()) < 2:
        raise ValueError(
            f"ranking draws likes of {users} user(s), of items that are new to them; expected at least 2, since "
            "intervals are made by drawing users. Raise ranking.users or ranking.rows, or write null to take all."
        )
    scorers: dict[str, Scorer] = {
        name: BASELINES.load(name).scorer(log, *([settings[name]] if name in settings else []))
        for name in (*RANKED, *config.baselines)
    }
    sources = source_scorers(
        scorers["popularity"],
        scorers["neighbours"],
        scorers["linear"],
        None if retriever is None else RetrieverReader(retriever, log).scorer,
    )
    reader = None if lens is None else LensReader(lens, log)
    logits = None if reader is None else lens_scorer(reader)
    teaching = draw_positives(log, "validation", None, config.validation_likes, config.seed)
    candidates = CandidateReader(log, ItemFacts(log), sources, logits)
    stage = SecondStage.learned(candidates, candidate_pairs(log, teaching, config.seed), teaching, config.seed)
    logger.info("Weights of the fusion: %s", stage.weights)
    scorers |= (sources := sources | stage.scorers(candidates))
    if logits is not None:
        scorers["lens"] = logits
    most = max(config.shortlist, *config.cutoffs)
    ranks = rank_by(scorers, log, likes, most, config.seed, config.sampled if config.candidates == "sampled" else None)
    return ranks if reader is None else with_lens_reranked(ranks, sources, reader, config.shortlist), stage


def with_lens_reranked(
    item_ranks: pl.DataFrame, sources: Iterable[str], reader: LensReader, shortlist: int
) -> pl.DataFrame:
    """Add the ranks by the lens on the shortlist of each source, named after it and `RERANKED`."""
    parts = [item_ranks]
    for source in sources:
        questions = reranking_questions(item_ranks, source, shortlist)
        scores = questions.with_columns(score=pl.Series(reader.logits(questions).numpy()))
        parts.append(rerank(item_ranks, scores, source, shortlist, source + RERANKED))
    return pl.concat(parts)


def rank_by(
    scorers: Mapping[str, Scorer],
    log: InteractionLog,
    positives: pl.DataFrame,
    most: int,
    seed: int,
    sampled: int | None = None,
) -> pl.DataFrame:
    """Rank likes by models, each at its own moment.

    Candidates of a like are the items of the log that its history lacks, all of them or a draw, and the like's own
    item. The time for all likes is estimated from the first one and logged before the others are ranked.

    Args:
        scorers: by model, a function from pairs, with item_index and the columns of `MOMENT`, to their scores.
        most: number of the best items to return.

    Returns:
        One line per like and model: model, row, user_index, item_index (the like's own), history_end, timestamp,
        better (candidates with a higher score), ties (others with an equal one), candidates (their number) and
        top_items (indices of the best ones; equal scores are in random order).

    Raises:
        ValueError: a score is not a number.
    """
    parts: dict[str, list[pl.DataFrame]] = {model: [] for model in scorers}
    width = log.items.height if sampled is None else sampled + 1
    blocks = (positives[:1], *positives[1:].iter_slices(max(1, PAIRS_AT_ONCE // width)))
    started = perf_counter()
    with Progress("rank", positives.height, "rows") as progress:
        for block in blocks:
            candidates = candidate_items(log, block, seed, sampled)
            pairs, inverse = _distinct_pairs(block, candidates)
            for model, scorer in scorers.items():
                scores = np.full(candidates.shape, -np.inf)
                scores[candidates != NO_ITEM] = _scores(model, scorer, pairs)[inverse]
                parts[model].append(_ranks(model, block, candidates, scores, most))
            if block is blocks[0]:
                _log_estimate(positives.height, int((candidates != NO_ITEM).sum()), perf_counter() - started)
            progress.update(block.height)
    return pl.concat(part for of_model in parts.values() for part in of_model)


def _log_estimate(likes: int, items: int, seconds: float) -> None:
    logger.info(
        f"Ranks {likes:,} likes, each among about {items:,} items: {likes * items:,} rows per model, about "
        f"{likes * seconds:,.0f} seconds by the first like."
    )


def candidate_items(log: InteractionLog, positives: pl.DataFrame, seed: int, sampled: int | None) -> np.ndarray:
    """Return item indices of each like's candidates in random order, one of them `NO_ITEM`: int64, (likes, width)."""
    if sampled is None:
        return _unseen_items(log, positives, np.random.default_rng(seed).permutation(log.items.height))
    return _sampled_items(log, positives, sampled, seed)


def _unseen_items(log: InteractionLog, positives: pl.DataFrame, order: np.ndarray) -> np.ndarray:
    allowed = np.ones((positives.height, len(order)), dtype=bool)
    for place, (user, end) in enumerate(positives.select("user_index", "history_end").iter_rows()):
        allowed[place, _past_items(log, user, end)] = False
    return np.where(allowed[:, order], order, NO_ITEM)


def _sampled_items(log: InteractionLog, positives: pl.DataFrame, most: int, seed: int) -> np.ndarray:
    """Draw candidates of each row, independently of the other rows."""
    items = log.items.height
    chosen = np.full((positives.height, min(items, most + 1)), NO_ITEM)
    columns = ("row", "user_index", "history_end", "item_index")
    for place, (row, user, end, target) in enumerate(positives.select(columns).iter_rows()):
        random = np.random.default_rng([seed, row])
        taken = np.union1d(_past_items(log, user, end), [target])
        # As many more as can be taken: what is left is a uniform draw of the rest.
        drawn = random.choice(items, size=min(items, most + len(taken)), replace=False)
        negatives = drawn[~np.isin(drawn, taken)][:most]
        chosen[place, : len(negatives) + 1] = np.insert(negatives, random.integers(len(negatives) + 1), target)
    return chosen


def _past_items(log: InteractionLog, user: int, end: int) -> np.ndarray:
    return log.sequences.item_index[log.sequences.offsets[user] : end]


def candidate_pairs(log: InteractionLog, positives: pl.DataFrame, seed: int) -> Iterator[pl.DataFrame]:
    """Yield all candidates of the moments of likes as pairs for a scorer, several moments at a time."""
    moments = positives.unique(MOMENT, maintain_order=True)
    for block in moments.iter_slices(max(1, PAIRS_AT_ONCE // log.items.height)):
        yield _distinct_pairs(block, candidate_items(log, block, seed, None))[0]


def _distinct_pairs(positives: pl.DataFrame, candidates: np.ndarray) -> tuple[pl.DataFrame, slice | np.ndarray]:
    """Return the distinct pairs of all likes' candidates for a scorer, and the pair of each candidate."""
    place, column = np.nonzero(candidates != NO_ITEM)
    item = candidates[place, column]
    # Likes of one user and second see the same history: what they have in common is scored once.
    moment = positives.select(pl.struct(MOMENT).rank("dense")).to_series().to_numpy().astype(np.int64)
    first: slice | np.ndarray = slice(None)
    inverse: slice | np.ndarray = slice(None)
    if len(np.unique(moment)) < len(moment):
        keys = moment[place] * (candidates.max() + 1) + item
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    pairs = positives.select(MOMENT)[place[first]].with_columns(item_index=pl.Series(item[first], dtype=pl.Int32))
    return pairs, inverse


def _scores(model: str, scorer: Scorer, pairs: pl.DataFrame) -> np.ndarray:
    scores = scorer(pairs)
    if invalid := np.sum(~np.isfinite(scores)):
        raise ValueError(f"{model}: {invalid} of {len(scores)} scores are no numbers; train it again.")
    return scores


def _ranks(model: str, positives: pl.DataFrame, candidates: np.ndarray, scores: np.ndarray, most: int) -> pl.DataFrame:
    own = scores[candidates == positives["item_index"].to_numpy()[:, None]][:, None]
    best = np.take_along_axis(candidates, greatest(scores, most), axis=1)
    top = pl.Series(best.astype(np.int32)).cast(pl.List(pl.Int32))
    return positives.select(
        pl.lit(model).alias("model"),
        "row",
        "user_index",
        "item_index",
        "history_end",
        "timestamp",
        better=(scores > own).sum(axis=1),
        ties=(scores == own).sum(axis=1) - 1,
        candidates=(candidates != NO_ITEM).sum(axis=1),
        top_items=top.list.eval(pl.element().filter(pl.element() != NO_ITEM)),
    )


def greatest(scores: np.ndarray, most: int) -> np.ndarray:
    """Return the columns of the greatest scores of each row, in descending order, the first among equals: (rows, most).

    Only these are sorted, which takes a sixth of the time for 12,000 columns.

    Examples:
        >>> greatest(np.array([[3, 5, 1, 5, 3], [0, 0, 0, 0, 0]]), most=3)
        array([[1, 3, 0],
               [0, 1, 2]])
    """
    most = min(most, scores.shape[1])
    least = np.partition(scores, -most, axis=1)[:, -most, None]
    row, column = np.nonzero(scores >= least)
    order = np.lexsort((-scores[row, column], row))
    starts = np.searchsorted(row, np.arange(len(scores)))
    return column[order][starts[:, None] + np.arange(most)]
