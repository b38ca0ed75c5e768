"""From canonical tables and index arrays to code tables and batches of indices."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from reclora_kedro.histories.retrieval import recent_events
from reclora_kedro.histories.sequences import Sequences
from reclora_kedro.lens.base import Behaviours, LensBatch
from reclora_kedro.lens.layers import UNKNOWN_ID

NOT_FIELDS = ("user_id", "item_id", "title")


@dataclass(frozen=True)
class EntityCodes:
    """Code tables of users or of items, by index.

    Attributes:
        id_codes: own code of each id, `UNKNOWN_ID` for those outside the training split, shape (rows,).
        fields: names of the categorical fields.
        field_codes: codes of the fields' values, from 1, padded with 0, shape (rows, fields, width).
        values: number of distinct values, all fields together.
    """

    id_codes: Tensor
    fields: list[str]
    field_codes: Tensor
    values: int


def encode_entities(table: pl.DataFrame, seen: np.ndarray, min_count: int) -> EntityCodes:
    """Code tables of a canonical users or items table.

    Every column but ids and titles is a categorical field; a comma parts the values of one field. A value that
    fewer than `min_count` of the seen rows share gets no code: it is an id in disguise, or was never trained.

    Args:
        table: `users` or `items`; a row's index is its place.
        seen: which rows the training split holds, shape (rows,).
        min_count: seen rows that must share a value.

    Examples:
        >>> items = pl.DataFrame({"item_id": [7, 8, 9], "genre": ["Drama, War", "Drama", "Western"]})
        >>> codes = encode_entities(items, seen=np.array([True, True, False]), min_count=1)
        >>> codes.field_codes.squeeze(1).tolist()
        [[1, 2], [1, 0], [0, 0]]
        >>> codes.id_codes.tolist()
        [1, 2, 0]
    """
    fields = [name for name in table.columns if name not in NOT_FIELDS]
    entries = (
        table.select(pl.int_range(pl.len()).alias("row"), pl.Series("seen", seen), *fields)
        .unpivot(fields, index=["row", "seen"], variable_name="field", value_name="value")
        .with_columns(pl.col("value").cast(pl.String).str.split(","))
        .explode("value")
        .with_columns(pl.col("value").str.strip_chars())
        .filter(pl.col("value") != "")
        .unique(["row", "field", "value"])
        .filter(pl.col("seen").sum().over("field", "value") >= min_count)
        .with_columns(field_place=pl.col("field").replace_strict(fields, range(len(fields)), return_dtype=pl.Int64))
        .sort("row", "field_place", "value")
        .with_columns(
            code=pl.struct("field_place", "value").rank("dense"),
            place=pl.int_range(pl.len()).over("row", "field"),
        )
    )
    places = entries.select(pl.col("row", "field_place", "place", "code").cast(pl.Int64))
    row, field, place, code = places.to_numpy().T
    codes = np.zeros((table.height, len(fields), place.max(initial=0) + 1), dtype=np.int64)
    codes[row, field, place] = code
    return EntityCodes(
        id_codes=torch.from_numpy(np.where(seen, np.arange(1, table.height + 1), UNKNOWN_ID)),
        fields=fields,
        field_codes=torch.from_numpy(codes),
        values=int(codes.max(initial=0)),
    )


class LensRows:
    """Makes batches of sample rows; ratings and items of histories are looked up batch by batch.

    Args:
        samples: the samples table; a row's number is its place.
        sequences: every user's events.
        long_history: flat event indices of each row, left-aligned, padded with -1, shape (rows, length).
        recent_length: most behaviours of the recent history.

    Raises:
        ValueError: `long_history` has not one row a sample.
    """

    def __init__(
        self, samples: pl.DataFrame, sequences: Sequences, long_history: np.ndarray, recent_length: int
    ) -> None:
        if len(long_history) != samples.height:
            raise ValueError(
                f"long_history has {len(long_history)} rows and samples has {samples.height}: they stem from "
                "different runs; run the history pipeline again"
            )
        self._user = samples["user_index"].to_numpy()
        self._item = samples["item_index"].to_numpy()
        self._sequences = sequences
        self._recent_history = recent_events(samples, sequences, recent_length)
        self._long_history = long_history

    def batch(self, rows: np.ndarray) -> LensBatch:
        """The samples with these row numbers, shape (batch,), on the CPU."""
        return LensBatch(
            user=torch.from_numpy(self._user[rows]).long(),
            item=torch.from_numpy(self._item[rows]).long(),
            recent_history=self._behaviours(self._recent_history[rows]),
            long_history=self._behaviours(self._long_history[rows]),
        )

    def _behaviours(self, events: np.ndarray) -> Behaviours:
        mask = events >= 0
        events = np.where(mask, events, 0)
        return Behaviours(
            item=torch.from_numpy(self._sequences.item_index[events]).long(),
            rating=torch.from_numpy(self._sequences.rating_level[events]).long(),
            mask=torch.from_numpy(mask),
        )
