"""The schema of events: the columns of the log, those that every log has and those that a project declares.

A column is declared in one place, `ingestion.interactions.columns` (or `Recommender.fit(..., columns=...)`), and
nothing else names it: whatever holds events asks the `EventSchema` for their columns, whatever reads events asks it for
those that are declared for it (`EventSchema.read_by`), and item models ask how much events count
(`EventSchema.weights`).

A column describes the event that has it. Readers see the columns of a history, never those of the event that they
predict. What is known of an item before anybody takes it, such as its price today, is a field of the items, see
`ingestion.items.fields`. The schema travels with the events: a log stores it with what was fitted to its events, which
logs that grow from it keep.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Self, TypeVar, get_args

import numpy as np
import polars as pl
from pydantic import ConfigDict, Field, model_validator

from kedro_provenance.errors import Fault, Sibling, Value
from kedro_provenance.parameters import Block
from reclora_kedro.parameters import NonNegative, Positive

Kind = Literal["number", "category", "weight", "event"]
Reader = Literal["lens", "second_stage", "prompt"]
Table = TypeVar("Table", pl.DataFrame, pl.LazyFrame)

NUMERIC: tuple[Kind, ...] = ("number", "weight")
CODED: tuple[Kind, ...] = ("category", "event")
MOST_CHARACTERS = 1_000  # of a text of an event, which anybody can send
MOST_NUMBER = 2.0**127  # beyond which a log's 32 bits have no finite number
NO_VALUE = ""  # the text of a code whose events are all gone
MOMENT_KEY = ("timestamp", "user_id")  # the order of the canonical log
EVENT_KEY = (*MOMENT_KEY, "item_id")  # the key of an event


class DeclaredColumn(Block):
    """A further column of the log: what it means, and who reads it.

    Its kind is number; category, a text; weight, how much an event counts to item models, such as plays; or event, a
    text with a weight for each of its values, such as view, cart and purchase.
    """

    source: str | None = Field(default=None, alias="from")  # column of the raw table; None if it has the same name
    kind: Kind
    read_by: tuple[Reader, ...] = get_args(Reader)  # of the events of a history
    weights: Mapping[str, NonNegative] = {}  # of the values of an event

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    @model_validator(mode="after")
    def _weights_of_events_alone(self) -> Self:
        if (self.kind == "event") != bool(self.weights):
            raise Fault(
                Sibling("weights"),
                ("is ", Value(dict(self.weights)), ", and ", Sibling("kind"), f" is {self.kind}"),
                "only columns of kind event have weights, one for each value",
                "Give weights such as {view: 0.1, purchase: 1}, or change the kind",
            )
        return self

    @property
    def expected(self) -> str:
        """What a value has to be, for messages."""
        kinds = {"number": "a number", "weight": "a number, 0 or greater", "category": "a text"}
        return kinds.get(self.kind) or f"one of {', '.join(self.weights)}"


class EventColumn(DeclaredColumn):
    """A declared column of some events."""

    name: str
    values: tuple[str, ...] = ()  # texts by code, from 1, of a category; new ones follow
    unit: Positive | None = None  # weight that counts 1: the median of the training events; None until it is fitted

    @property
    def is_coded(self) -> bool:
        return self.kind in CODED

    @property
    def weighs(self) -> bool:
        """Whether it says how much an event counts."""
        return self.kind in ("weight", "event")

    @property
    def example(self) -> float | str:
        return next(iter(self.weights), f"some {self.name}") if self.is_coded else 9.5

    @property
    def dtype(self) -> pl.DataType:
        """Its type in the canonical table."""
        return pl.String() if self.is_coded else pl.Float64()

    @property
    def stored(self) -> str:
        """Its type in the arrays of a log, where a category has codes."""
        return "i4" if self.is_coded else "f4"

    @property
    def missing(self) -> float:
        """What the arrays of a log have for an event without a value."""
        return 0 if self.is_coded else np.nan

    def fault(self) -> pl.Expr:
        """Return which rows of a table have a value that no event may have."""
        value = pl.col(self.name)
        unfit = {
            "number": value.abs() >= MOST_NUMBER,
            "weight": ~value.is_between(0, MOST_NUMBER, closed="left"),
            "event": ~value.is_in([*self.weights]),
        }
        return unfit.get(self.kind, pl.lit(False))

    def takes(self, value: Any) -> bool:
        """Whether an event that is sent may have a value; None, and so an event without one, always."""
        if value is None:
            return True
        if self.is_coded:
            is_text = isinstance(value, str) and 0 < len(value.strip()) <= MOST_CHARACTERS and value.isprintable()
            return is_text and (self.kind == "category" or value.strip() in self.weights)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST_NUMBER
        return is_number and (self.kind == "number" or value >= 0)

    def encoded(self, values: pl.Series) -> np.ndarray:
        """Return values of the canonical table as a log stores them: float32, or codes."""
        if not self.is_coded:
            return values.cast(pl.Float64).fill_null(self.missing).to_numpy().astype(self.stored)
        codes = {value: code for code, value in enumerate(self.values, 1)}
        return values.replace_strict(codes, default=0, return_dtype=pl.Int32).fill_null(0).to_numpy()

    def number(self, stored: np.ndarray) -> np.ndarray:
        """Return what a model reads of a number or a weight in a log's array, NaN where there is none."""
        return self.weight(stored, np.nan) if self.weighs else stored

    def decoded(self, stored: float) -> float | int | str | None:
        """Return a value of a log's array as a person reads it; None if there is none."""
        if self.is_coded:
            return self.values[int(stored) - 1] if stored else None
        number = float(f"{stored:.6g}")
        return None if np.isnan(number) else int(number) if number.is_integer() else number

    def weight(self, stored: np.ndarray, missing: float = 1) -> np.ndarray:
        """Return how much events count by their values in a log's array, if the column `weighs`.

        A weight counts ``log2(1 + weight / unit)``: 0 for none, 1 for the unit, 2 for three times as much.
        """
        if self.kind == "weight":
            return np.nan_to_num(np.log2(1 + stored / np.float32(self.unit or 1)), nan=missing)
        weights = (self.weights.get(value, missing) for value in self.values)
        return np.array([missing, *weights], dtype=np.float32)[stored]

    def with_texts(self, texts: Iterable[str]) -> Self:
        """Return a copy with further codes for texts that have none, in their order."""
        known = set(self.values)
        new = [text for text in dict.fromkeys(texts) if text not in known]
        return self.model_copy(update={"values": (*self.values, *new)}) if new else self


class Fixed(NamedTuple):
    """A column that every log has: its type in the canonical table, and its name and type among a log's arrays."""

    dtype: Any
    array: str | None
    stored: str


FIXED: Mapping[str, Fixed] = {
    "user_id": Fixed(pl.Int64, None, "i4"),
    "item_id": Fixed(pl.Int64, "item_index", "i4"),
    "rating": Fixed(pl.Float64, "rating", "f4"),
    "timestamp": Fixed(pl.Int64, "timestamp", "i8"),
    "label": Fixed(pl.Int8, "label", "i1"),
}
"""The columns of every log: ids may be String; 1 is the rating in a log without ratings."""
SENT_NAMES = ("user", "item", "rating", "clicked", "liked", "title", "time", "event_id", "request_id", "columns")
TAKEN_NAMES = frozenset(
    {*FIXED, *SENT_NAMES, "rating_level", "item_index", "user_index", "offsets", "source", "group", "alarm"}
    | {"event", "history_end", "is_event", "is_sample", "row", "owner"}  # which tables of samples have
)
"""Names that no declared column may have, as tables, requests or records have others of these names."""


def comes_after_previous(key: Sequence[str]) -> pl.Expr:
    """Return whether each row's key is greater than the previous row's; true for the first row.

    Examples:
        >>> table = pl.DataFrame({"timestamp": [1, 1, 2, 2], "user_id": [5, 6, 5, 5]})
        >>> table.select(comes_after_previous(["timestamp", "user_id"])).to_series().to_list()
        [True, True, True, False]
    """
    after = pl.lit(False)
    for column in map(pl.col, reversed(key)):
        after = (column > column.shift()) | ((column == column.shift()) & after)
    return after.fill_null(True)


@dataclass(frozen=True)
class EventSchema:
    """The columns of events: those of every log, then the declared ones."""

    declared: tuple[EventColumn, ...] = ()

    @property
    def table(self) -> dict[str, Any]:
        """The types of the canonical table by name, in order."""
        return {name: column.dtype for name, column in FIXED.items()} | {c.name: c.dtype for c in self.declared}

    @property
    def arrays(self) -> dict[str, str]:
        """The types of the arrays of a log's events by name."""
        fixed = {column.array: column.stored for column in FIXED.values() if column.array}
        return fixed | {column.name: column.stored for column in self.declared}

    def read_by(self, reader: Reader, kinds: Sequence[Kind] = (*NUMERIC, *CODED)) -> tuple[EventColumn, ...]:
        """Return the declared columns of some kinds that a reader of histories reads."""
        return tuple(column for column in self.declared if reader in column.read_by and column.kind in kinds)

    def complete(self, table: Table) -> Table:
        """Return a canonical table with the schema's columns alone: those that it lacks have no values.

        So rows from before a column was declared stay.
        """
        held = table.lazy().collect_schema()
        columns = [
            pl.col(name) if name in held else pl.lit(None, kind).alias(name) for name, kind in self.table.items()
        ]
        return table.select(*columns, *(name for name in held if name in ("source", "group", "alarm")))

    @property
    def weight(self) -> list[pl.Expr]:
        """How much the rows of a canonical table count, as far as their order goes; empty if nothing says so."""
        return [
            pl.col(column.name)
            if column.kind == "weight"
            else pl.col(column.name).replace_strict(dict(column.weights), default=None, return_dtype=pl.Float64)
            for column in self.declared
            if column.weighs
        ]

    def weights(self, columns: Mapping[str, np.ndarray], events: Any = ...) -> np.ndarray | None:
        """Return how much some events of a log's arrays count, float32; None if each counts 1."""
        factors = [column.weight(columns[column.name][events]) for column in self.declared if column.weighs]
        return np.prod(factors, axis=0, dtype=np.float32) if factors else None

    def ranks(self, columns: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Return what `weight` has of a log's arrays: of equal ratings, the event with the highest numbers stays."""
        return [column.weight(columns[column.name], -1) for column in self.declared if column.weighs]

    def coded(self, table: pl.LazyFrame) -> Self:
        """Return a copy with a code for each text of a table's events, the most frequent first.

        Texts that have a code keep it, and lose their name if no event has them any more.
        """

        def with_codes(column: EventColumn) -> EventColumn:
            if not column.is_coded:
                return column
            counts = table.select(pl.col(column.name).alias("value")).drop_nulls().group_by("value").len()
            ordered = counts.sort("len", "value", descending=[True, False]).collect(engine="streaming")["value"]
            found = set(ordered)
            kept = tuple(value if value in found else NO_VALUE for value in column.values)
            return column.model_copy(update={"values": kept}).with_texts(ordered)

        return self._changed(with_codes)

    def recognising(self, table: pl.DataFrame) -> Self:
        """Return a copy with codes for all texts of further events."""
        return self._changed(lambda each: each.with_texts(table[each.name].drop_nulls()) if each.is_coded else each)

    def scaled(self, columns: Mapping[str, np.ndarray], training: np.ndarray) -> Self:
        """Return a copy whose weights have the median of the training events as their unit, if they had none."""

        def with_unit(column: EventColumn) -> EventColumn:
            if column.kind != "weight" or column.unit is not None:
                return column
            known = columns[column.name][training]
            known = known[known > 0]
            return column.model_copy(update={"unit": float(np.median(known)) if len(known) else 1.0})

        return self._changed(with_unit)

    def after(self, before: Self) -> Self:
        """Return a copy with what was fitted to earlier events, as far as they had these columns."""
        fitted = {(each.name, each.kind): {"values": each.values, "unit": each.unit} for each in before.declared}
        return self._changed(lambda each: each.model_copy(update=fitted.get((each.name, each.kind), {})))

    def _changed(self, change: Callable[[EventColumn], EventColumn]) -> Self:
        return replace(self, declared=tuple(map(change, self.declared)))

    def values_of(self, columns: Mapping[str, np.ndarray], event: int, reader: Reader | None = None) -> dict[str, Any]:
        """Return what the declared columns of a reader, or all, say of an event of a log, without missing values."""
        read = self.declared if reader is None else self.read_by(reader)
        values = {column.name: column.decoded(columns[column.name][event].item()) for column in read}
        return {name: value for name, value in values.items() if value is not None}

    def text(self, values: Mapping[str, Any], event: str) -> str | None:
        """Return the values of an event that was sent, by name, as the text of JSON that a journal keeps, if any.

        Fault, whose message begins with `event`, is raised for a value that is unfit, or of no declared column.
        """
        columns, read = {column.name: column for column in self.declared}, dict[str, Any]()
        for name, value in values.items():
            known = f"one of the columns {', '.join(columns)}" if columns else "no further column"
            expected = columns[name].expected if name in columns else known
            if name not in columns or not columns[name].takes(value):
                advice = "Correct it, or leave it out" if name in columns else "Leave it out"
                raise Fault(f"{event}{name}", ("is ", Value(value)), expected, advice)
            if value is not None:
                read[name] = value.strip() if isinstance(value, str) else float(value)
        return json.dumps(read, sort_keys=True, ensure_ascii=False) if read else None

    def parsed(self, texts: Iterable[str | None]) -> pl.DataFrame:
        """Return the declared columns of events by the texts that a journal has of them, null where it has no value."""
        rows = [json.loads(text) if text else {} for text in texts] if self.declared else []
        values = ((each, [row.get(each.name) for row in rows]) for each in self.declared)
        return pl.DataFrame([pl.Series(each.name, of_rows, each.dtype, strict=False) for each, of_rows in values])

    def encoded(self, table: pl.DataFrame) -> dict[str, np.ndarray]:
        """Return the declared columns of a table as a log stores them."""
        return {each.name: each.encoded(table[each.name]) for each in self.declared}

    def to_json(self) -> str:
        return json.dumps([column.model_dump(mode="json") for column in self.declared])

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(tuple(EventColumn.model_validate(column) for column in json.loads(text)))


PLAIN = EventSchema()  # the schema of a log without declared columns
