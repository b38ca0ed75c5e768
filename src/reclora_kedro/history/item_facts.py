"""Events and age of items at given moments, and their similarity to the user's latest ones."""

from copy import copy
from typing import Self

import numpy as np
import polars as pl

from reclora_kedro.history.fields import number_names
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.retrieval import unit_vectors
from reclora_kedro.history.sequences import Sequences, TimeLog, first_not_before
from reclora_kedro.ingestion.plausible_times import SECONDS_PER_DAY

LATEST = 5  # events whose items' vectors are compared with those of pairs
MOST_TIED = 50  # the same, and those of the second of the fifth latest one, where seconds have no order
TREND_DAYS = 30
EVENTS_AT_ONCE = 5 * 2**12  # of pairs, whose vectors are compared at once


class ItemFacts:
    """Features of pairs: number and age of the item's events, and its similarity to the user's history.

    Further ones are of what a log declares. A number of the items is that of the pair's item, and how far it lies above
    those of the user's latest ones. A column of the events is that of the latest one, for numbers also the mean.

    Without a shared clock, all known events count at any moment, ages are 0, and cosines see no order within a second.
    Item embeddings are compared if the log has any. `is_training_event` says which events count, shape (events,), None
    for all, and `delay` from which age, in seconds.
    """

    def __init__(self, log: InteractionLog, is_training_event: np.ndarray | None = None, delay: float = 0) -> None:
        item, second = log.sequences.item_index, log.sequences.timestamp
        if is_training_event is None or is_training_event.all():
            [events] = log.sequences.by_item
            self._times = events.log
        else:
            item, second = item[is_training_event], second[is_training_event]
            self._times = TimeLog(item, second)
        self._after, self._delay = second.max(initial=0) + 1, delay
        self._has_clock = log.shared_clock
        self._numbers = {name: log.items[name].to_numpy() for name in number_names(log.items)}
        self._vectors = None if log.item_embeddings is None else unit_vectors(log.item_embeddings).astype(np.float32)

    def with_numbers(self, items: pl.DataFrame) -> Self:
        """Return a copy with the numbers that the same items have now."""
        facts = copy(self)
        facts._numbers = {name: items[name].to_numpy() for name in number_names(items)}
        return facts

    def features(self, events: Sequences, pairs: pl.DataFrame) -> dict[str, np.ndarray]:
        """Return the features of pairs with histories among events: by name, shape (pairs,).

        Pairs have the columns user_index, item_index, history_end and timestamp.
        """
        item, now, end = (pairs[name].to_numpy() for name in ("item_index", "timestamp", "history_end"))
        start = events.starts[pairs["user_index"].to_numpy()]
        until = np.minimum(now - self._delay, self._after) if self._has_clock else np.full(len(now), self._after)
        first, last = self._times.range_before(item, until)
        is_cold, is_new = last == first, end == start
        recent = last - self._times.range_before(item, until - TREND_DAYS * SECONDS_PER_DAY)[1]
        features = {
            "events": np.log1p(last - first),
            "recent_events": np.log1p(recent),
            "days_since_item": _log_days(until - self._times.seconds(last - 1), is_cold),
            "item_age": _log_days(until - self._times.seconds(first), is_cold),
            "history_length": np.log1p(end - start),
            "days_since_event": _log_days(now - events.timestamp[end - 1], is_new),
        }
        if not self._has_clock:
            timed = ("recent_events", "days_since_item", "item_age", "days_since_event")
            features |= {name: np.zeros(len(now)) for name in timed}
        if self._vectors is not None:
            cosines = self._cosines(events, item, start, end)
            features |= {"cosine_last": cosines[:, 0], "cosine_latest": cosines[:, 1]}
        return features | self._declared(events, item, start, end)

    def _declared(
        self, events: Sequences, item: np.ndarray, start: np.ndarray, end: np.ndarray
    ) -> dict[str, np.ndarray]:
        columns, features = events.schema.read_by("second_stage"), dict[str, np.ndarray]()
        if not columns and not self._numbers:
            return features
        place = end[:, None] - 1 - np.arange(LATEST)
        is_event = place >= start[:, None]
        latest = np.where(is_event, place, 0)

        def of_latest(values: np.ndarray) -> np.ndarray:
            return np.where(is_event, values[latest] if len(values) else np.nan, np.nan)

        for name, values in self._numbers.items():
            own = values[item]
            features[f"{name}_of_item"] = own
            features[f"{name}_above_latest"] = own - _mean(of_latest(values[events.item_index]))
        for column in columns:
            stored = events.declared[column.name]
            of_events = of_latest(stored if column.is_coded else column.number(stored))
            features[f"{column.name}_of_last"] = of_events[:, 0]
            if not column.is_coded:
                features[f"{column.name}_of_latest"] = _mean(of_events)
        return features

    def _cosines(self, events: Sequences, item: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Return the cosine with the item of the last event, and the greatest with the latest ones: (pairs, 2).

        Without a shared clock, the first is the mean over the events of the last second.
        """
        assert self._vectors is not None  # the caller has asked
        cosines, seconds = np.zeros((len(item), 2), dtype=np.float32), events.timestamp
        if not len(seconds):
            return cosines
        last, latest = np.maximum(start, end - 1), np.maximum(start, end - LATEST)
        if not self._has_clock:
            last, latest = (
                np.maximum(first_not_before(seconds.take(each, mode="clip"), seconds, start, end), end - MOST_TIED)
                for each in (last, latest)
            )
        width = int((end - latest).max(initial=1))
        for first in range(0, len(item), step := EVENTS_AT_ONCE // width):
            rows = slice(first, first + step)
            place = end[rows, None] - 1 - np.arange(width)
            is_event, is_last = (place >= each[rows, None] for each in (latest, last))
            vectors = self._vectors[events.item_index[np.where(is_event, place, 0)]]
            of_events = np.einsum("nkd,nd->nk", vectors, self._vectors[item[rows]], optimize=True)
            mean = np.where(is_last, of_events, 0).sum(axis=1) / np.maximum(is_last.sum(axis=1), 1)
            best = np.stack([mean, np.where(is_event, of_events, -np.inf).max(axis=1)], axis=1)
            cosines[rows] = np.where(is_event[:, :1], best, 0)
        return cosines


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the means of rows without missing values; NaN for a row without values."""
    is_value = ~np.isnan(values)
    sums, counts = np.where(is_value, values, 0).sum(axis=1), is_value.sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _log_days(seconds: np.ndarray, is_unknown: np.ndarray) -> np.ndarray:
    return np.where(is_unknown, -1, np.log1p(np.maximum(seconds, 0) / SECONDS_PER_DAY))
