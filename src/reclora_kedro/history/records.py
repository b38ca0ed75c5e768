"""Questions as readable records of user, history and target item."""

from collections.abc import Iterator
from typing import Any, NotRequired, TypedDict, cast

import numpy as np
import polars as pl

from reclora_kedro.history.fields import field_names, number_names
from reclora_kedro.history.log import InteractionLog

FieldValue = float | str


class ShownItem(TypedDict):
    """An item, with its further fields by their names; absent fields are left out."""

    title: str


class ShownEvent(ShownItem):
    """An event of a history, with the fields of its item and the declared columns by their names."""

    rating: float
    liked: bool
    columns: NotRequired[list[str]]  # names of the declared columns


class ShownQuestion(TypedDict):
    """What a prompt may show of a question."""

    row: int | str
    use: str
    label: int
    user: dict[str, FieldValue]  # fields of the profile
    history: list[ShownEvent]  # oldest first
    target: ShownItem


def prompt_records(questions: pl.DataFrame, log: InteractionLog, history: np.ndarray) -> list[ShownQuestion]:
    """Return what a prompt may show of each question and its `history`, see `InteractionLog.histories`."""
    sequences = log.sequences
    is_event = np.unique(history[history >= 0])
    needed = np.union1d(sequences.item_index[is_event], questions["item_index"].to_numpy())
    described = _present_fields(log.items[needed], ["title", *field_names(log.items), *number_names(log.items)])
    texts = dict(zip(needed.tolist(), described, strict=True))
    columns = (is_event, sequences.item_index[is_event], sequences.rating[is_event], sequences.label[is_event])
    events = {
        event: texts[item] | {"rating": _told(rating), "liked": label == 1}
        for event, item, rating, label in zip(*(column.tolist() for column in columns), strict=True)
    }
    if sequences.schema.read_by("prompt"):
        for event, told in events.items():
            declared = sequences.schema.values_of(sequences.declared, event, "prompt")
            events[event] = told | declared | {"columns": [*declared]}
    rows = questions.select("row", "use", "label").iter_rows(named=True)
    fields = [*field_names(log.users), *number_names(log.users)]
    profiles = _present_fields(log.users[questions["user_index"].to_numpy()], fields)
    shown = [
        row | {"user": profile, "history": [events[event] for event in past if event >= 0], "target": texts[target]}
        for row, profile, past, target in zip(rows, profiles, history.tolist(), questions["item_index"], strict=True)
    ]
    return cast(list[ShownQuestion], shown)


def _present_fields(table: pl.DataFrame, fields: list[str]) -> Iterator[dict[str, Any]]:
    for record in table.iter_rows(named=True):
        yield {field: _told(record[field]) for field in fields if record[field] is not None}


def _told(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
