"""Questions as readable records of user, history and target item."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from reclora_kedro.history.fields import field_names
from reclora_kedro.history.log import InteractionLog


def prompt_records(questions: pl.DataFrame, log: InteractionLog, history: np.ndarray) -> list[dict[str, Any]]:
    """Return what a prompt may show of each question and its `history`, see `InteractionLog.histories`.

    Returns:
        One record per question, in their order: row, use, label; user: the profile's fields; history: oldest first,
        one dict per event of the item's texts, rating and liked; target: the item's texts. Absent fields are left out.
    """
    sequences = log.sequences
    is_event = np.unique(history[history >= 0])
    needed = np.union1d(sequences.item_index[is_event], questions["item_index"].to_numpy())
    described = _present_fields(log.items[needed], ["title", *field_names(log.items)])
    texts = dict(zip(needed.tolist(), described, strict=True))
    columns = (is_event, sequences.item_index[is_event], sequences.rating[is_event], sequences.label[is_event])
    events = {
        event: texts[item] | {"rating": int(rating) if rating.is_integer() else rating, "liked": label == 1}
        for event, item, rating, label in zip(*(column.tolist() for column in columns), strict=True)
    }
    rows = questions.select("row", "use", "label").iter_rows(named=True)
    profiles = _present_fields(log.users[questions["user_index"].to_numpy()], field_names(log.users))
    return [
        row | {"user": profile, "history": [events[event] for event in past if event >= 0], "target": texts[target]}
        for row, profile, past, target in zip(rows, profiles, history.tolist(), questions["item_index"], strict=True)
    ]


def _present_fields(table: pl.DataFrame, fields: list[str]) -> Iterator[dict[str, Any]]:
    for record in table.iter_rows(named=True):
        yield {field: record[field] for field in fields if record[field] is not None}
