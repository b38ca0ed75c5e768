"""Events that somebody sends, by HTTP or from a script: what a log takes, and the columns that it keeps of them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from kedro_provenance.errors import Fault, Value
from reclora_kedro.history.sequences import Sequences, levels_as_before
from reclora_kedro.ingestion.cleaning import liked
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.ingestion.events import EventSchema
from reclora_kedro.ingestion.plausible_times import believed_seconds


def sent_rating(config: IngestionConfig, rating: float | None, clicked: bool | None, event: str) -> float | None:
    """Return the rating of an event that was sent: 1 in a log without ratings, None for what was not clicked.

    Fault, whose subject begins with `event`, is raised for a rating off the scale, and for what such a log has not.
    """
    columns, low, high = config.interactions, config.rating_min, config.rating_max
    if columns.rating:
        is_rated_alone = clicked is None and not isinstance(rating, bool)
        if is_rated_alone and isinstance(rating, int | float | np.number) and low <= rating <= high:
            return rating
        expected = f"it must be from {low:g} to {high:g}, and not clicked"
        raise Fault(f"{event}rating", ("is ", Value(rating)), expected)
    if rating is not None or (clicked is None) == columns.has_impressions:
        of_impressions = "clicked, true or false, and no rating"
        expected = f"it must have {of_impressions if columns.has_impressions else 'neither rating nor clicked'}"
        found = {name: value for name, value in {"rating": rating, "clicked": clicked}.items() if value is not None}
        raise Fault(event.rstrip("/."), ("has ", Value(found)), expected)
    return None if clicked is False else 1.0


def sent_second(time: Any, config: IngestionConfig, subject: str, latest: float = np.inf) -> int:
    """Return the second since the epoch of a time: seconds, or a datetime, in UTC if it has no zone.

    Fault is raised for what is neither, and for a time that is not plausible, or after the latest second.
    """
    second = time.replace(tzinfo=time.tzinfo or UTC).timestamp() if isinstance(time, datetime) else time
    first, last = believed_seconds(config.plausible_times)
    last = int(min(last, latest))
    if not (isinstance(second, int | float | np.number) and first <= second <= last):
        ends = (datetime.fromtimestamp(each, UTC).isoformat().replace("+00:00", "Z") for each in (first, last))
        raise Fault(subject, ("is ", Value(str(time))), f"it must be a time from {' to '.join(ends)}")
    return int(second)


def sent_columns(
    rating: Sequence[float | None],
    texts: Sequence[str | None],
    schema: EventSchema,
    ratings: Sequences,
    config: IngestionConfig | None,
) -> tuple[EventSchema, dict[str, np.ndarray]]:
    """Return the rating, its level, the label and the declared columns of events, and the schema with their texts.

    Levels are those of earlier `ratings`. `texts` have the declared columns, see `EventSchema.text`. Without a config,
    all are likes.
    """
    declared = schema.parsed(texts)
    schema = schema.recognising(declared)
    exact = declared.with_columns(rating=pl.Series(rating, dtype=pl.Float64))
    stored, is_liked = exact["rating"].to_numpy().astype(np.float32), pl.lit(True)
    if config is not None:
        exact, is_liked = config.interactions.events.complete(exact), liked(config)[0]  # as ingestion has them
    label = exact.select(is_liked.cast(pl.Int8)).to_series().to_numpy()
    columns = {"rating": stored, "rating_level": levels_as_before(stored, ratings)}
    return schema, columns | {"label": np.broadcast_to(label, stored.shape)} | schema.encoded(declared)


def distinct_events(rows: Mapping[str, np.ndarray], schema: EventSchema, best: int) -> np.ndarray:
    """Return the places of events by user, second and arrival; of each user, item and second, one is kept.

    If `best` is 1, it is the one with the highest rating, if -1, with the lowest.
    """
    owner, item, second = (rows[name] for name in ("user", "item_index", "timestamp"))
    ranks = (-rank for rank in reversed(schema.ranks(rows)))
    order = np.lexsort((*ranks, -best * rows["rating"], item, second, owner))
    kept = order[first_of_runs(owner[order], second[order], item[order])]
    return kept[np.lexsort((kept, second[kept], owner[kept]))]


def first_of_runs(*keys: np.ndarray) -> np.ndarray:
    """Return whether each row differs from the one before in any key."""
    return np.append(np.full(min(1, len(keys[0])), True), np.any([key[1:] != key[:-1] for key in keys], axis=0))
