"""A linear model of items taken together, items taken next, and similar texts."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial, reduce
from itertools import product
from typing import Annotated, Any, Self, TypeAlias

import numpy as np
import polars as pl
from pydantic import Field
from scipy.sparse import csr_array, diags_array, vstack

from kedro_provenance.parameters import Block
from reclora_kedro.baselines.base import SCORES_AT_ONCE, Scorer, ndcg_of_likes, ndcg_of_settings
from reclora_kedro.baselines.ease import item_weights
from reclora_kedro.baselines.transitions import transitions
from reclora_kedro.evaluation.styles import Style
from reclora_kedro.history.fields import describe_items
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.sequences import Sequences, places_of, user_of_events
from reclora_kedro.history.taken_items import draw_positives, latest_events
from reclora_kedro.llm.item_vectors import tfidf_vectors
from reclora_kedro.parameters import Count, NonNegative, Positive, Seed

logger = logging.getLogger(__name__)

NOTE = (
    "a linear model of the user's latest events: EASE (above linear.max_items items, cosines of who took them), "
    "transitions and TF-IDF, as validation likes prefer them"
)
STYLE = Style("#B6992D", "cross", "dashdot")
MOST_TAKEN = 3000  # items, among which regularization and recency are chosen in seconds
NEAREST = 200  # cosines kept of each item where there are too many items for EASE
TEXTS_AT_ONCE = 64  # that are compared with all
UpToOne = Annotated[Positive, Field(le=1)]
Matrix: TypeAlias = np.ndarray | csr_array
Term: TypeAlias = Callable[[csr_array], np.ndarray]


class LinearConfig(Block):
    """Settings to choose among for a linear model."""

    events: Count
    regularizations: tuple[Positive, ...] = Field(min_length=1)
    recencies: tuple[UpToOne, ...] = Field(min_length=1)
    window: Count
    window_decay: UpToOne
    text_powers: tuple[Positive, ...] = Field(min_length=1)
    weights: tuple[NonNegative, ...] = Field(min_length=1)
    validation_likes: Count
    max_items: Count
    seed: Seed


class LinearSettings(Block):
    """Settings of a linear model, see `LinearModel`."""

    regularization: Positive
    recency: UpToOne
    transition_weight: NonNegative = 0.0
    directed: bool = False
    within_moments: bool = True
    text_weight: NonNegative = 0.0
    text_power: Positive = 1.0


def scorer(log: InteractionLog, config: LinearConfig) -> Scorer:
    """Return a scorer that knows the training events, and of the user all events before the pair's moment."""
    return LinearModel.chosen(log, config).score


@dataclass(frozen=True, eq=False)
class Texts:
    """TF-IDF vectors of the items' descriptions; equal descriptions have one."""

    vectors: csr_array  # vectors of length one, float32, shape (descriptions, words)
    of_item: np.ndarray  # the description of each item, shape (items,)
    _nearest: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def scores(self, histories: csr_array, power: float) -> np.ndarray:
        """Return sums over weighted histories, (histories, items), of powers of cosines: the same shape."""
        taken, column = np.unique(self.of_item[histories.indices], return_inverse=True)
        weights = csr_array((histories.data, column, histories.indptr), shape=(histories.shape[0], len(taken)))
        cosines = self.vectors[taken] @ self.vectors.T
        cosines.data **= np.float32(power)
        return _of_matrix(cosines, weights)[:, self.of_item]

    def nearest(self, items: np.ndarray) -> csr_array:
        """Return the greatest cosines, at most `NEAREST`, of each of some items: shape (len(items), items)."""
        missing = np.array(sorted({*self.of_item[items].tolist()} - self._nearest.keys()), dtype=np.int64)
        for texts in np.split(missing, range(TEXTS_AT_ONCE, len(missing), TEXTS_AT_ONCE)):
            self._find_nearest(texts)
        rows = [self._nearest[text] for text in self.of_item[items].tolist()]
        others, cosines = (np.concatenate(each) for each in zip(*rows, strict=True))
        ends = np.cumsum([0, *(len(near) for near, _ in rows)])
        return csr_array((cosines, others, ends), shape=(len(items), len(self.of_item)))

    def _find_nearest(self, texts: np.ndarray) -> None:
        cosines, order = self.vectors[texts] @ self._by_word, self._items_by_text
        for place, text in enumerate(texts.tolist()):
            own = slice(*cosines.indptr[place : place + 2])
            near, values = cosines.indices[own], cosines.data[own]
            if len(values) > NEAREST:
                most = np.argpartition(values, -NEAREST)[-NEAREST:]
                near, values = near[most], values[most]
            best = np.argsort(-values, kind="stable")
            starts, ends = (np.searchsorted(self.of_item, near[best], side, order) for side in ("left", "right"))
            items = order[places_of(starts, ends)]
            self._nearest[text] = items[:NEAREST], np.repeat(values[best], ends - starts)[:NEAREST]

    @cached_property
    def _by_word(self) -> csr_array:
        return self.vectors.T.tocsr()

    @cached_property
    def _items_by_text(self) -> np.ndarray:
        return np.argsort(self.of_item, kind="stable").astype(np.int32)


@dataclass(frozen=True, eq=False)
class LinearModel:
    """Scores of items that are linear in a user's latest events.

    With the user's events j_0, j_1, … from the latest one backwards, item i scores::

        sum over k of recency^k * (EASE[j_k, i] + transition_weight * T[j_k, i]
                                   + text_weight * cos(t_i, t_(j_k))^text_power)

    where T are transitions, and t TF-IDF vectors of descriptions. Events of one second have the same weight.
    """

    settings: LinearSettings
    events: int  # number of each user's latest events to read
    sequences: Sequences
    together: Matrix  # weights of `ease.item_weights`; above `max_items` items, cosines of their users (item-kNN)
    following: csr_array | None  # transitions, see `transitions.transitions`; None if they have no weight
    texts: Texts | None  # descriptions; None if they have no weight

    @classmethod
    def fit(cls, log: InteractionLog, settings: LinearSettings, config: LinearConfig) -> Self:
        everything = _Fit(log, config, np.ones(len(log.sequences.timestamp), dtype=bool))
        return cls._made(everything, settings, everything.together(settings.regularization))

    @classmethod
    def chosen(cls, log: InteractionLog, config: LinearConfig) -> Self:
        """Fit the model to the training events, with the settings of the highest NDCG@10 on validation likes.

        EASE among the 3,000 items with the most users chooses regularization and recency together; then the kind and
        weight of transitions are chosen, then the power and weight of texts. Without validation likes, the first value
        of each setting is taken, without transitions and texts.
        """
        training = _Fit(log, config, log.training_events())
        likes = draw_positives(log, "validation", None, config.validation_likes, config.seed)
        settings = LinearSettings(regularization=config.regularizations[0], recency=config.recencies[0])
        if likes.height:
            settings = _best_of_most_taken(training, likes)
        together = training.together(settings.regularization)
        if likes.height:
            settings = _with_best_terms(training, likes, settings, together)
        logger.info("Linear model, %s: %s", "item_knn" if isinstance(together, csr_array) else "ease", settings)
        return cls._made(training, settings, together)

    @classmethod
    def _made(cls, fit: "_Fit", settings: LinearSettings, together: Matrix) -> Self:
        following = fit.following(settings.directed, settings.within_moments) if settings.transition_weight else None
        texts = fit.texts() if settings.text_weight else None
        return cls(settings, fit.config.events, fit.log.sequences, together, following, texts)

    def with_log(self, log: InteractionLog) -> Self:
        """Return a copy with the same weights and another log of the same items."""
        return replace(self, sequences=log.sequences)

    def score(self, pairs: pl.DataFrame) -> np.ndarray:
        """Return the scores of pairs with user_index, history_end and item_index: float32, shape (pairs,)."""
        keys = pairs.select(moment=pl.struct("user_index", "history_end").rank("dense") - 1).to_series().to_numpy()
        first, moment = np.unique(keys, return_index=True)[1], keys.astype(np.int64)
        item, items = pairs["item_index"].to_numpy(), self.together.shape[0]
        histories = latest_events(self.sequences, pairs[first], items, self.events, self.settings.recency)
        scores, step = np.empty(pairs.height, dtype=np.float32), max(1, SCORES_AT_ONCE // items)
        for start in range(0, len(first), step):
            own = slice(None) if len(first) <= step else np.flatnonzero((moment >= start) & (moment < start + step))
            scores[own] = self._of_histories(histories[start : start + step])[moment[own] - start, item[own]]
        return scores

    def sparse_scores(self, moments: pl.DataFrame) -> csr_array:
        """Return the scores of all items, of which most are 0: shape (moments, items).

        Texts count with the `NEAREST` greatest cosines of each event's item alone: sums of all cosines would take as
        long as the catalogue is large.

        Args:
            moments: frame with user_index and history_end.
        """
        items = self.together.shape[0]
        histories = latest_events(self.sequences, moments, items, self.events, self.settings.recency)
        scores = csr_array(histories @ self.together)
        if self.following is not None:
            scores += self.settings.transition_weight * (histories @ self.following)
        if self.texts is not None:
            taken, column = np.unique(histories.indices, return_inverse=True)
            near = self.texts.nearest(taken)
            near.data **= np.float32(self.settings.text_power)
            own = csr_array((histories.data, column, histories.indptr), shape=(moments.height, len(taken)))
            scores += self.settings.text_weight * (own @ near)
        return scores

    def likeness(self, item: int) -> np.ndarray:
        """Return the addend of each item's score for a latest event of this item: shape (items,)."""
        one = csr_array((np.ones(1, dtype=np.float32), ([0], [item])), shape=(1, self.together.shape[0]))
        return self._of_histories(one)[0]

    def _of_histories(self, histories: csr_array) -> np.ndarray:
        """Return scores of all items, shape (histories, items)."""
        scores = _of_matrix(self.together, histories)
        if self.following is not None:
            scores += self.settings.transition_weight * _of_matrix(self.following, histories)
        if self.texts is not None:
            scores += self.settings.text_weight * self.texts.scores(histories, self.settings.text_power)
        return scores


@dataclass(frozen=True, eq=False)
class _Fit:
    """Training data of a linear model: a log and its usable events, shape (events,)."""

    log: InteractionLog
    config: LinearConfig
    usable: np.ndarray

    @cached_property
    def taken(self) -> csr_array:
        """Return ones where a user took an item: float32, shape (users, items)."""
        sequences, items = self.log.sequences, self.log.items.height
        user = user_of_events(sequences.offsets)[self.usable].astype(np.int64)
        pairs = np.unique(user * items + sequences.item_index[self.usable])
        entries = np.ones(len(pairs), dtype=np.float32), np.divmod(pairs, items)
        return csr_array(entries, shape=(len(sequences.starts), items))

    def together(self, regularization: float) -> Matrix:
        """Return the weights of EASE or, for too many items, the greatest cosines of their users."""
        if self.taken.shape[1] <= self.config.max_items:
            return item_weights(self.taken, regularization)
        logger.warning(
            "The log has %d items, and linear.max_items is %d: item_knn takes the place of ease.",
            self.taken.shape[1],
            self.config.max_items,
        )
        unit = self.taken @ diags_array(np.maximum(self.taken.sum(axis=0), 1) ** np.float32(-0.5))
        takers, items = unit.T.tocsr(), unit.shape[1]
        step = max(1, SCORES_AT_ONCE // items)
        blocks = [_nearest(takers[start : start + step] @ unit, start) for start in range(0, items, step)]
        return vstack(blocks, format="csr")

    def following(self, directed: bool, within_moments: bool) -> csr_array:
        window, users = (self.config.window, self.config.window_decay), self.taken.sum(axis=0)
        return transitions(self.log.sequences, self.usable, users, *window, directed, within_moments)

    def texts(self) -> Texts | None:
        """Return vectors of the items' descriptions; None if they have too few words."""
        descriptions = describe_items(self.log.items)
        try:
            vectors = tfidf_vectors(descriptions)[0].astype(np.float32)
        except ValueError:
            return None
        number = {text: place for place, text in enumerate(dict.fromkeys(descriptions))}
        of_item = np.array([number[text] for text in descriptions])
        return Texts(vectors[np.unique(of_item, return_index=True)[1]], of_item)

    def histories(self, likes: pl.DataFrame, recency: float) -> csr_array:
        """Return weighted histories of likes, shape (likes, items)."""
        return latest_events(self.log.sequences, likes, self.log.items.height, self.config.events, recency)

    def seen(self, likes: pl.DataFrame) -> csr_array:
        """Return the items of all events before likes, shape (likes, items)."""
        return latest_events(self.log.sequences, likes, self.log.items.height, len(self.usable), 1)


def _nearest(cosines: csr_array, first: int) -> csr_array:
    """Keep the greatest cosines of each item with others, for the items from `first` on: shape (rows, items)."""
    row = np.repeat(np.arange(cosines.shape[0]), np.diff(cosines.indptr))
    cosines.data[cosines.indices == first + row] = 0
    order = np.lexsort((-cosines.data, row))
    kept = order[np.arange(len(order)) - cosines.indptr[row] < NEAREST]
    return csr_array((cosines.data[kept], (row[kept], cosines.indices[kept])), shape=cosines.shape)


def _best_of_most_taken(fit: _Fit, likes: pl.DataFrame) -> LinearSettings:
    """Return the regularization and recency that rank likes best among the items with the most users."""
    most = np.sort(np.argsort(-fit.taken.sum(axis=0), kind="stable")[:MOST_TAKEN])
    place = np.searchsorted(most, likes["item_index"]).clip(max=len(most) - 1)
    listed = most[place] == likes["item_index"].to_numpy()
    likes, place, taken = likes.filter(listed), place[listed], fit.taken[:, most]
    histories = {recency: fit.histories(likes, recency)[:, most] for recency in fit.config.recencies}
    seen, tried = fit.seen(likes)[:, most], {}
    for regularization in fit.config.regularizations:
        weights = item_weights(taken, regularization)
        for recency, of_likes in histories.items():
            tried[regularization, recency] = ndcg_of_likes(of_likes @ weights, seen, place)
    regularization, recency = max(tried, key=tried.__getitem__)
    return LinearSettings(regularization=regularization, recency=recency)


def _with_best_terms(fit: _Fit, likes: pl.DataFrame, settings: LinearSettings, together: Matrix) -> LinearSettings:
    """Add the transitions and then the texts that improve the ranking of likes most."""
    seen, place = fit.seen(likes), likes["item_index"].to_numpy()
    histories = fit.histories(likes, settings.recency)
    terms: list[Term] = [partial(_of_matrix, together)]

    def add_best(tried: list[tuple[dict[str, Any], Term]], weight_name: str) -> None:
        """Add the term and weight that rank likes best, if any is better than none."""
        nonlocal settings

        def scores(rows: slice) -> Iterator[tuple[tuple[int, float], np.ndarray]]:
            before = reduce(np.add, (term(histories[rows]) for term in terms))
            yield (0, 0.0), before
            for number, (_, term) in enumerate(tried):
                added = term(histories[rows])
                for weight in filter(None, fit.config.weights):
                    yield (number, weight), before + np.float32(weight) * added

        ndcg = ndcg_of_settings(scores, seen, place)
        number, weight = max(ndcg, key=ndcg.__getitem__)
        if weight:
            kind, best = tried[number]
            terms.append(lambda history: np.float32(weight) * best(history))
            settings = settings.model_copy(update=kind | {weight_name: weight})

    kinds = [{"directed": directed, "within_moments": within} for directed, within in product((False, True), repeat=2)]
    add_best([(kind, partial(_of_matrix, fit.following(**kind))) for kind in kinds], "transition_weight")
    if (texts := fit.texts()) is not None:
        powers = fit.config.text_powers
        add_best([({"text_power": power}, partial(texts.scores, power=power)) for power in powers], "text_weight")
    return settings


def _of_matrix(matrix: Matrix, histories: csr_array) -> np.ndarray:
    return _dense(histories @ matrix)


def _dense(matrix: Matrix) -> np.ndarray:
    return matrix if isinstance(matrix, np.ndarray) else matrix.toarray()
