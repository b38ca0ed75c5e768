"""Samples as readable records: who, what they saw before, and what they are asked about."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from reclora_kedro.histories.sequences import Sequences


def prompt_records(
    rows: pl.DataFrame,
    samples: pl.DataFrame,
    sequences: Sequences,
    history_events: np.ndarray,
    items: pl.DataFrame,
    users: pl.DataFrame,
) -> list[dict[str, Any]]:
    """What a prompt may say about each row.

    Args:
        rows: prompt rows: row, use, label.
        samples: all samples; sample `i` has row `i`.
        sequences: all events.
        history_events: flat event indices of each row's history, shape (rows, k), padded with -1.
        items: canonical items.
        users: canonical users.

    Returns:
        One record a row, in the order of `rows`: row, use, label; user: the profile's fields; history: oldest first,
        one dict an event of the item's texts, rating and liked; target: the item's texts. Absent fields are left out.
    """
    chosen = samples[rows["row"].to_numpy()]
    seen = np.unique(history_events[history_events >= 0])
    needed = np.union1d(sequences.item_index[seen], chosen["item_index"].to_numpy())
    texts = dict(zip(needed.tolist(), _present_fields(items[needed], "item_id"), strict=True))
    events = {
        event: texts[item] | {"rating": int(rating) if rating.is_integer() else rating, "liked": label == 1}
        for event, item, rating, label in zip(
            seen.tolist(),
            sequences.item_index[seen].tolist(),
            sequences.rating[seen].tolist(),
            sequences.label[seen].tolist(),
            strict=True,
        )
    }
    profiles = _present_fields(users[chosen["user_index"].to_numpy()], "user_id")
    return [
        row | {"user": profile, "history": [events[event] for event in history if event >= 0], "target": texts[target]}
        for row, profile, history, target in zip(
            rows.iter_rows(named=True), profiles, history_events.tolist(), chosen["item_index"].to_list(), strict=True
        )
    ]


def _present_fields(table: pl.DataFrame, id_column: str) -> Iterator[dict[str, Any]]:
    for record in table.iter_rows(named=True):
        yield {field: value for field, value in record.items() if field != id_column and value is not None}
