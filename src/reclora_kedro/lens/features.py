"""Fresh lenses for a log, code tables of its users and items, and batches of samples as indices."""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Self

import numpy as np
import polars as pl
import torch
from torch import Tensor

from kedro_provenance.errors import MismatchError
from reclora_kedro.history.co_occurrences import cross_fitted_vectors
from reclora_kedro.history.fields import category_names, field_values, number_names
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.questions import MOMENT
from reclora_kedro.history.rating_statistics import RatingStatistics
from reclora_kedro.history.retrieval import recent_events
from reclora_kedro.ingestion.events import CODED, NUMERIC
from reclora_kedro.lens.base import History, Lens, LensBatch, build_lens
from reclora_kedro.lens.config import LensConfig, LensSizes
from reclora_kedro.lens.layers import UNKNOWN_ID

SCORING_BATCH_SIZE = 2048  # samples, where nothing is trained
SCALING_ROWS = 2**20  # about so many training samples, evenly over their time, give means and scales of numbers
WINDOW_EVENTS = 2**25  # event indices held at once: 128 MiB
LEAST_SHARED = 64  # samples of one moment that are batched by themselves, so that what they share is computed once
SHARED_WINDOWS = 4  # times the length of what is retrieved, over 1: a past so long is shared whole, a longer one is not


def coded_values(table: pl.DataFrame, seen: np.ndarray, min_count: int) -> dict[str, tuple[str, ...]]:
    """Return the values of each categorical field of a canonical users or items table that get codes, in order.

    Every column but ids, titles and descriptions is a categorical field; commas separate the values of one row. A value
    that fewer than `min_count` rows of the training split (`seen`, shape (rows,)) share gets no code: it would act as
    an id, or never be trained.

    Examples:
        >>> items = pl.DataFrame({"item_id": [7, 8, 9], "genre": ["War,Drama", "Drama", "Western"]})
        >>> coded_values(items, seen=np.array([True, True, False]), min_count=1)
        {'genre': ('Drama', 'War')}
    """
    fields = category_names(table)
    counts = field_values(table.filter(seen), fields).group_by("field", "value").len()
    coded = counts.filter(pl.col("len") >= min_count).sort("value")
    return {field: tuple(coded.filter(field=field)["value"]) for field in fields}


def encode_fields(table: pl.DataFrame, coded: dict[str, tuple[str, ...]]) -> Tensor:
    """Return the codes of the fields' values, from 1 and padded with 0: int64, shape (rows, fields, width).

    A table without one of the fields is refused by a MismatchError.

    Examples:
        >>> items = pl.DataFrame({"item_id": [7, 8, 9], "genre": ["War, Drama", "Drama", "Western"]})
        >>> encode_fields(items, {"genre": ("Drama", "War")}).squeeze(1).tolist()
        [[1, 2], [1, 0], [0, 0]]
    """
    if missing := coded.keys() - category_names(table):
        message = f"The lens reads the fields {', '.join(sorted(missing))}, which a table of the log lacks."
        raise MismatchError(message, "log", "lens")
    values_of_fields = [
        (place, field, value) for place, (field, values) in enumerate(coded.items()) for value in values
    ]
    schema = {"field_place": pl.Int64, "field": pl.String, "value": pl.String}
    codes = pl.DataFrame(values_of_fields, schema, orient="row").with_columns(code=pl.int_range(1, pl.len() + 1))
    entries = (
        field_values(table, list(coded))
        .join(codes, on=["field", "value"])
        .sort("row", "code")
        .with_columns(place=pl.int_range(pl.len()).over("row", "field"))
    )
    row, field, place, code = entries.select("row", "field_place", "place", "code").to_numpy().T
    encoded = np.zeros((table.height, len(coded), place.max(initial=0) + 1), dtype=np.int64)
    encoded[row, field, place] = code
    return torch.from_numpy(encoded)


def numbers_of(table: pl.DataFrame, names: Sequence[str]) -> Tensor | None:
    """Return numeric fields of a canonical users or items table, float32, NaN where there is none: (rows, fields).

    The result is None without fields; a table that lacks one is refused by a MismatchError.
    """
    if missing := set(names).difference(number_names(table)):
        message = f"The lens reads the numbers {', '.join(sorted(missing))}, which a table of the log lacks."
        raise MismatchError(message, "log", "lens")
    return table.select(pl.col(names).cast(pl.Float32).fill_null(float("nan"))).to_torch() if names else None


class LensLoader:
    """Makes batches of samples for a lens; histories and statistics are gathered, or computed, as batches are made.

    A sample is a position in its user's sequence, so that memory does not grow with samples times history length.
    Retrieval is faster the more samples of a user it handles at once, so it takes as many as `WINDOW_EVENTS` allows.

    Without `targets`, the inputs that depend on the target item, a long history and statistics, are left out. A lens
    that was built for other users, items or columns of events than the log's is refused by a MismatchError.
    """

    def __init__(self, log: InteractionLog, lens: Lens, targets: bool = True) -> None:
        rows_of = {"users": (log.users.height, lens.sizes.users), "items": (log.items.height, lens.sizes.items)}
        for entity, (rows, expected) in rows_of.items():
            if rows != expected:
                message = f"The log has {rows} {entity}, but the lens knows {expected}: they stem from different runs."
                raise MismatchError(message, "log", "lens")
        self.log = log
        self._numbers, self._places = lens.sizes.event_numbers, dict[str, np.ndarray]()
        for name, codes in lens.sizes.event_values.items():
            self._places[name] = np.zeros(2 + max(codes, default=0), dtype=np.int64)  # the last is of all later codes
            self._places[name][[*codes]] = np.arange(1, 1 + len(codes))
        self._statistics_of = statistics_of(lens) if targets and lens.config.rating_statistics else None
        self._recent_length = lens.config.recent_length
        self._long_history = lens.config.long_history if targets and lens.reads_long_history else None

    def with_log(self, log: InteractionLog) -> Self:
        """Return a loader for the same lens and another log of the same users and items."""
        loader = copy(self)
        loader.log = log
        if made := vars(self).get("rating_statistics"):
            loader.rating_statistics = made.with_log(log)
        return loader

    @cached_property
    def rating_statistics(self) -> RatingStatistics | None:
        """Those of the log, made when they are first read: of 100 million events they take 4 GiB."""
        return self._statistics_of and self._statistics_of(self.log)

    def batches(self, samples: pl.DataFrame, size: int) -> Iterator[tuple[np.ndarray, LensBatch]]:
        """Yield batches of `size` samples, in their order and on the CPU, with the places of their samples."""
        for places, user, item, long, statistics in self._inputs(samples, size):
            recent = recent_events(samples[places], self.log.sequences, self._recent_length)
            for start in range(0, len(places), size):
                part = slice(start, start + size)
                latest, history = self._history(recent[part]), self._history(long[part])
                yield places[part], LensBatch(user[part], item[part], latest, history, statistics[part])

    def batches_by_moment(self, samples: pl.DataFrame, size: int) -> Iterator[tuple[np.ndarray, LensBatch]]:
        """Yield batches as `batches` does, in any order; consecutive samples of one moment share user and histories.

        If the long history is retrieved, they share the whole past, and each sample's mask selects its events.
        """
        run = samples.select(pl.struct(MOMENT).rle_id()).to_series().to_numpy()
        shares = np.bincount(run)[run] >= LEAST_SHARED
        few, many = np.flatnonzero(~shares), np.flatnonzero(shares)
        for places, batch in self.batches(samples[few], size):
            yield few[places], batch
        for places, user, item, long, statistics in self._inputs(samples[many], size):
            places = many[places]
            bounds = [0, *np.flatnonzero(np.diff(run[places])) + 1, len(places)]
            moments = samples[places[bounds[:-1]]]
            for number, (start, end) in enumerate(pairwise(bounds)):
                first, moment = slice(start, start + 1), moments.slice(number, 1)  # no row is copied
                recent = self._history(recent_events(moment, self.log.sequences, self._recent_length))
                for begin in range(start, end, size):
                    part = slice(begin, min(begin + size, end))
                    history = self._shared_history(long[part], moment, recent)
                    yield places[part], LensBatch(user[first], item[part], recent, history, statistics[part])

    def _inputs(
        self, samples: pl.DataFrame, size: int
    ) -> Iterator[tuple[np.ndarray, Tensor, Tensor, np.ndarray, Tensor]]:
        """Yield places, users, items, long histories and statistics of as many samples as `WINDOW_EVENTS` allows."""
        window = self._long_history
        longest = max(self._recent_length, window.k if window else 0)
        longest = min(longest, int((self.log.sequences.ends - self.log.sequences.starts).max()))
        rows_at_once = size * max(1, WINDOW_EVENTS // (size * longest))
        for start in range(0, samples.height, rows_at_once):
            chunk = samples[start : start + rows_at_once]
            long = self.log.histories(chunk, window) if window else np.full((chunk.height, 1), -1)
            user, item = (torch.tensor(chunk[name].to_numpy()).long() for name in ("user_index", "item_index"))
            yield np.arange(start, start + chunk.height), user, item, long, self.statistics(chunk)

    def _shared_history(self, events: np.ndarray, moment: pl.DataFrame, recent: History) -> History:
        """Return the events of samples of one moment, (n, k), as masks over their past unless that is too long."""
        window = self._long_history
        if window is None:
            return recent
        past = recent_events(moment, self.log.sequences, SHARED_WINDOWS * window.k)
        if window.kind == "recent" or past.shape[1] <= window.k:
            history = self._history(events[:1])
            return recent if history.item.shape == recent.item.shape else history  # both are the latest events
        if past[0, 0] > events.min():
            return self._history(events)
        mask = np.zeros((len(events), past.shape[1]), dtype=bool)
        np.put_along_axis(mask, events - past[0, 0], True, axis=1)
        return replace(self._history(past), mask=torch.from_numpy(mask))

    def statistics(self, samples: pl.DataFrame) -> Tensor:
        """Return rating statistics of samples, float32, (n, 11), or (n, 0) for a lens without them."""
        if self.rating_statistics is None:
            return torch.empty(samples.height, 0)
        return self.rating_statistics.compute(samples).to_torch()

    def _history(self, events: np.ndarray) -> History:
        mask = events >= 0
        longest = max(1, int(mask.sum(axis=1).max()))
        events, mask = np.where(mask, events, 0)[:, :longest], mask[:, :longest]
        return History(
            item=torch.from_numpy(self.log.sequences.item_index[events]).long(),
            rating=torch.from_numpy(self.log.sequences.rating_level[events]).long(),
            mask=torch.from_numpy(mask),
            **self._declared(events),
        )

    def _declared(self, events: np.ndarray) -> dict[str, Tensor | None]:
        """Return numbers and values of a `History` of events by flat index, (n, k), by what the log declares."""
        columns = {column.name: column for column in self.log.sequences.schema.declared}
        if missing := {*self._numbers, *self._places}.difference(columns):
            message = f"The lens reads the columns {', '.join(sorted(missing))}, which the events of the log lack."
            raise MismatchError(message, "log", "lens")
        stored = self.log.sequences.declared
        numbers = [columns[name].number(stored[name][events]) for name in self._numbers]
        codes = [places[stored[name][events].clip(max=len(places) - 1)] for name, places in self._places.items()]
        return {
            name: torch.from_numpy(np.stack(parts, axis=-1)) if parts else None
            for name, parts in (("numbers", numbers), ("values", codes))
        }


def fresh_lens(log: InteractionLog, config: LensConfig) -> tuple[Lens, LensLoader]:
    """Build an untrained lens for a log, with its code tables, scales and fixed vectors filled in, and its loader."""
    users_in_training, items_in_training = (
        seen_in(log.samples_in("train", index)[index], table.height)
        for table, index in ((log.users, "user_index"), (log.items, "item_index"))
    )
    user_fields, item_fields = (
        coded_values(table, in_training.numpy(), config.field_min_count)
        for table, in_training in ((log.users, users_in_training), (log.items, items_in_training))
    )
    user_codes, item_codes = encode_fields(log.users, user_fields), encode_fields(log.items, item_fields)
    trained_until = int(log.samples_in("train", "timestamp")["timestamp"].to_numpy().max())
    sequences, is_known = log.sequences, log.sequences.timestamp <= trained_until
    ratings = sequences.rating[is_known]
    columns, coded = (sequences.schema.read_by("lens", kinds) for kinds in (NUMERIC, CODED))
    counts = {column.name: np.bincount(sequences.declared[column.name][is_known]) for column in coded}
    codes = {name: np.flatnonzero(of_codes >= config.field_min_count) for name, of_codes in counts.items()}
    sizes = LensSizes(
        users=log.users.height,
        user_fields=user_fields,
        user_width=user_codes.shape[-1],
        items=log.items.height,
        item_fields=item_fields,
        item_width=item_codes.shape[-1],
        item_text_widths=log.encoder_widths if config.item_text else (),
        rating_levels=int(log.sequences.rating_level.max()) + 1,
        rating_range=(float(ratings.min()), float(ratings.max())),
        trained_until=trained_until,
        user_numbers=tuple(number_names(log.users)),
        item_numbers=tuple(number_names(log.items)),
        event_numbers=tuple(column.name for column in columns),
        event_values={name: tuple(of_column[of_column > 0].tolist()) for name, of_column in codes.items()},
    )
    lens = build_lens(config, sizes)
    if columns:
        known = [column.number(sequences.declared[column.name][is_known]) for column in columns]
        lens.event_numbers.fit(torch.from_numpy(np.stack(known, axis=1)))
    loader, rows = LensLoader(log, lens), log.rows_in("train")
    train = log.samples[rows[:: -(-len(rows) // SCALING_ROWS)]]
    if loader.rating_statistics:
        lens.statistics.fit(loader.rating_statistics.compute(train).to_torch())
    for entity, in_training, codes, numbers in (
        (lens.user, users_in_training, user_codes, numbers_of(log.users, sizes.user_numbers)),
        (lens.item, items_in_training, item_codes, numbers_of(log.items, sizes.item_numbers)),
    ):
        if numbers is not None:
            entity.of_numbers.fit(numbers[in_training])
            entity.numbers.copy_(entity.of_numbers.standardise(numbers))
        entity.id_codes.copy_(torch.arange(1, 1 + len(in_training)).masked_fill(~in_training, UNKNOWN_ID))
        entity.field_codes.copy_(codes)
    if config.item_text:
        lens.item.texts.copy_(torch.from_numpy(log.item_text_vectors()))
    if config.co_occurrence_folds:
        vectors = cross_fitted_vectors(log, lens.user_folds.numpy(), config.seed)
        lens.co_occurrences.copy_(torch.from_numpy(vectors))
    if lens.similarities.output_dim:
        lens.eval()
        batches = loader.batches(train, SCORING_BATCH_SIZE)
        lens.similarities.fit(torch.cat([lens.cosines(batch) for _, batch in batches]))
    return lens, loader


def seen_in(index: pl.Series, count: int) -> Tensor:
    """Return whether each of `count` users (items) occurs in an index column: bool, shape (count,)."""
    seen = torch.zeros(count, dtype=torch.bool)
    seen[index.unique().to_torch().long()] = True
    return seen


def statistics_of(lens: Lens) -> Callable[[InteractionLog], RatingStatistics]:
    """Return what makes rating statistics of a log with the scale and the `statistics_delay` of a lens."""
    delay, scale = lens.config.statistics_delay, lens.sizes.rating_range
    if delay == "frozen":
        return partial(RatingStatistics, until=lens.sizes.trained_until, scale=scale)
    return partial(RatingStatistics, delay=delay, scale=scale)
