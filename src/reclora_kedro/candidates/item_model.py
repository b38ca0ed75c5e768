"""The interface of item models, what they learn from, and the choice of their settings by likes."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from kedro_provenance.parameters import Block
from reclora_kedro.candidates.moments import NOTHING, ItemOrder, Lists, Moments, Scores, best_items, ranks_of, scores_at
from reclora_kedro.distributed.engine import LOCAL, EngineConfig, map_shards
from reclora_kedro.evaluation.metrics import ndcg
from reclora_kedro.evaluation.styles import Style
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.sequences import user_of_events
from reclora_kedro.history.taken_items import NEW_ITEMS, Rules
from reclora_kedro.progress import SECONDS_PER_LINE, Progress

if TYPE_CHECKING:
    from reclora_kedro.candidates.next_item.base import Retriever

logger = logging.getLogger(__name__)

CHOOSING_CUTOFF = 10  # of the NDCG that chooses settings

NOTHING_LEARNED: Mapping[str, np.ndarray] = MappingProxyType({})

T = TypeVar("T")


class NoSettings(Block):
    """Settings of a model that has none."""


@dataclass(frozen=True, eq=False)
class Training:
    """What item models learn from: the known events of a log, and what several models make of them."""

    log: InteractionLog
    is_training_event: np.ndarray  # whether each event is known, shape (events,)
    retriever: "Retriever | None" = None  # which a step of its own has trained
    learned: Mapping[str, np.ndarray] = field(default_factory=dict)  # by ``source/name``, see `ItemModel.learned`
    engine: EngineConfig = LOCAL  # whose workers share what takes long; in a worker, this process
    _made: dict[Hashable, Any] = field(default_factory=dict, init=False)

    @classmethod
    def from_split(
        cls, log: InteractionLog, *, retriever: "Retriever | None" = None, engine: EngineConfig = LOCAL
    ) -> Self:
        """Know the events of the training split."""
        return cls(log, log.training_events(), retriever, engine=engine)

    @classmethod
    def from_log(
        cls,
        log: InteractionLog,
        *,
        retriever: "Retriever | None" = None,
        learned: Mapping[str, np.ndarray] = NOTHING_LEARNED,
        engine: EngineConfig = LOCAL,
    ) -> Self:
        """Know all events."""
        return cls(log, np.ones(len(log.sequences.timestamp), dtype=bool), retriever, learned, engine)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"engine": LOCAL}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what has been made of these events under a key, or make it."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def release(self) -> None:
        """Forget what has been made of the events, which fitted models keep as far as they need it."""
        self._made.clear()

    @property
    def items(self) -> int:
        return self.log.items.height

    @property
    def user(self) -> np.ndarray:
        """User of each event, shape (events,)."""
        return self.once("user", lambda: user_of_events(self.log.sequences.offsets))

    @property
    def user_items(self) -> csr_array:
        """How much users took items, that of the event that counts most: float32, shape (users, items).

        It is 1 unless the log declares weights; events that count 0 are left out.
        """
        return self.once("taken", lambda: self._pairs(self.is_training_event))

    @cached_property
    def users(self) -> np.ndarray:
        """Number of users of each item: float32, shape (items,)."""
        return np.bincount(self.user_items.indices, minlength=self.items).astype(np.float32)

    @cached_property
    def order(self) -> ItemOrder:
        """Items by the number of users who liked them, then of those who took them, then by index."""
        likers = self._pairs(self.is_training_event & (self.log.sequences.label == 1)).sum(axis=0)
        return ItemOrder(np.lexsort((-self.users, -likers)).astype(np.int64))

    def _pairs(self, counts: np.ndarray) -> csr_array:
        events = self.log.sequences
        item, before = events.item_index[counts], np.append(np.int32(0), counts.cumsum(dtype=np.int32))[events.offsets]
        weights = events.weights(np.flatnonzero(counts))
        entries = np.ones(len(item), dtype=np.float32) if weights is None else weights
        pairs = csr_array((entries, item, before), shape=(len(events.starts), self.items))
        if weights is not None:
            return greatest_of_pairs(pairs)
        pairs.sum_duplicates()
        pairs.data[:] = 1
        return pairs

    def moments(self, frame: pl.DataFrame, **rules: Any) -> Moments:
        """Return moments of the log, see `Moments.from_frame`."""
        return Moments.from_frame(frame, self.log.sequences, self.order, **rules)

    def among(self, items: np.ndarray, likes: pl.DataFrame) -> tuple["Training", pl.DataFrame]:
        """Return the same without other items and their events, and the likes of these items, with new indices."""
        events = self.log.sequences
        index = np.full(self.items, -1, dtype=np.int32)
        index[items] = np.arange(len(items), dtype=np.int32)
        kept = index[events.item_index] >= 0
        before = np.append(0, kept.cumsum())
        sequences = events.where(kept, item_index=index[events.item_index[kept]])
        log = self.log.of_items(items, sequences=sequences, samples=self.log.samples.clear())
        likes = likes.with_columns(
            item_index=pl.Series(index[likes["item_index"].to_numpy()]),
            history_end=pl.Series(before[likes["history_end"].to_numpy()]),
        )
        return Training(log, self.is_training_event[kept]), likes.filter(pl.col("item_index") >= 0)


def greatest_of_pairs(pairs: csr_array) -> csr_array:
    """Return a matrix whose entries, of which several may be of one row and column, are the greatest ones above 0.

    Examples:
        >>> pairs = csr_array((np.array([0.5, 1, 2, 0]), np.array([2, 2, 1, 0]), np.array([0, 3, 4])), shape=(2, 3))
        >>> greatest_of_pairs(pairs).toarray()
        array([[0., 2., 1.],
               [0., 0., 0.]])
    """
    row = np.repeat(np.arange(pairs.shape[0]), np.diff(pairs.indptr))
    order = np.lexsort((pairs.data, pairs.indices, row))
    row, column, weights = row[order], pairs.indices[order], pairs.data[order]
    is_greatest = np.append((np.diff(row) != 0) | (np.diff(column) != 0), np.full(min(1, len(row)), True))
    kept = is_greatest & (weights > 0)
    ends = np.append(0, np.bincount(row[kept], minlength=pairs.shape[0]).cumsum()).astype(pairs.indptr.dtype)
    return csr_array((weights[kept], column[kept], ends), shape=pairs.shape)


@dataclass(frozen=True)
class Step:
    """Settings to choose among together, as changes of those chosen so far; among equals, the first."""

    changes: Sequence[Mapping[str, Any]]
    most_items: int | None = None  # with the most users, in a catalogue of which they are chosen; None for all


class ItemModel(ABC):
    """A model that scores the items of the whole catalogue at moments of users.

    A source is a module with one subclass, which needs `fit` and `scores` alone. Models of large catalogues return
    sparse scores, or find their best items in another way (`top`, `score`).
    """

    NOTE: ClassVar[str] = "a source of one's own"  # what it is, after its name in a report
    LABEL: ClassVar[str] = "a source of one's own"  # the same in a few words
    STYLE: ClassVar[Style] = Style("#5B5B9A", "star-square", "dashdot")  # in figures
    Config: ClassVar[type[Block]] = NoSettings  # its block of parameters, which has the name of the source
    Settings: ClassVar[type[Block]] = NoSettings  # what it is fitted with; all fields have defaults

    @classmethod
    def choices(cls, config: Any, training: Training) -> list[Step]:
        """Return the settings that likes choose among, one step after the other."""
        return []

    @classmethod
    @abstractmethod
    def fit(cls, training: Training, settings: Any) -> Self:
        """Learn from the known events."""

    @abstractmethod
    def scores(self, moments: Moments) -> Scores:
        """Return the scores of all items, (moments, items), from each user's events so far; dense or sparse."""

    def top(self, moments: Moments, limit: int) -> Lists:
        """Return the best items that each moment may get."""
        lists = Lists.empty(len(moments), limit)
        for rows, block in moments.blocks():
            lists.items[rows], lists.scores[rows], _ = best_items(self._scored(block), block, limit)
        return lists

    def score(self, moments: Moments, row: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Return the scores of items at rows of the moments, shape (pairs,)."""
        scores = np.empty(len(row))
        for rows, block in moments.blocks():
            own = (row >= rows.start) & (row < rows.stop)
            scores[own] = scores_at(self._scored(block), row[own] - rows.start, item[own])
        return scores

    def learned(self) -> dict[str, np.ndarray]:
        """Return weights that took long to learn, which a later `fit` to the same events finds in `Training.learned`.

        What tells whether the events are the same is among them; there are none if all is learned in seconds.
        """
        return {}

    def _scored(self, moments: Moments) -> Scores:
        """Return the scores of moments, which are made once."""
        return moments.once((self, "scores"), lambda: self.scores(moments))

    def as_of_each_moment(self, training: Training) -> Self:
        """Return a copy that also counts, at each moment, what happened before it; what was learned stays."""
        return self

    def with_events(self, log: InteractionLog, changed: np.ndarray | None = None) -> Self:
        """Return a copy that counts the events of a log that grew from its own; what was learned stays.

        Users whose events differ from those counted are named by index, ascending; None for all.
        """
        return self


def choose_settings(
    model: type[ItemModel],
    training: Training,
    config: Any,
    likes: pl.DataFrame,
    rules: Rules = NEW_ITEMS,
    *,
    live: bool = False,
) -> Any:
    """Return the settings with the highest NDCG@10 for likes, each among the items that its user may get.

    Without likes, the first of each step are taken. Workers of the training's engine share the settings to try. Likes
    have item_index and the columns of `MOMENT`. Live models also count what happened before each like, see
    `ItemModel.as_of_each_moment`.
    """
    settings, engine = model.Settings(), training.engine
    for step in model.choices(config, training):
        tried = [settings.model_copy(update=change) for change in step.changes]
        here, of_step, excluded = training, likes, rules.excluded
        if step.most_items is not None and step.most_items < training.items:
            first = training.order.items[~np.isin(training.order.items, excluded)][: step.most_items]
            here, of_step = training.among(np.sort(first), likes)
            excluded = NOTHING  # they are not among these items
        if len(tried) > 1 and of_step.height:
            moments = here.moments(of_step, repeat=rules.repeat, excluded=excluded)
            target = of_step["item_index"].to_numpy()
            workers = engine.workers if engine.spreads else 1
            parts = [[tried[number] for number in part] for part in np.array_split(np.arange(len(tried)), workers)]
            sums = map_shards(partial(_ndcg_sums, model, here, live, moments, target), parts, engine, "settings")
            settings = tried[int(np.argmax(np.concatenate(list(sums))))]
        else:
            settings = tried[0]
    if settings != model.Settings():
        logger.info("Settings of %s: %s", model.__module__.rpartition(".")[2], settings)
    return settings


def _ndcg_sums(
    model: type[ItemModel], training: Training, live: bool, moments: Moments, target: np.ndarray, tried: list[Any]
) -> np.ndarray:
    """Return the sum of the NDCG of targets at moments by the model with each of some settings, shape (settings,)."""
    sums = np.zeros(len(tried))
    fitted = (model.fit(training, each) for each in tried)  # one after the other, as each may be large
    models = [each.as_of_each_moment(training) if live else each for each in fitted]
    step = f"{len(tried)} settings of {model.__module__.rpartition('.')[2]}"
    with Progress(step, len(moments), "likes", delay=SECONDS_PER_LINE) as progress:
        for rows, block in moments.blocks():
            for number, each in enumerate(models):
                sums[number] += ndcg(ranks_of(each.scores(block), block, target[rows]), CHOOSING_CUTOFF).sum()
            progress.update(len(block))
    return sums
