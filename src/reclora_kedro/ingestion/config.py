"""Settings of the ingestion step."""

import re
from collections import Counter
from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from kedro_provenance.errors import NULL, Fault, Parameter, Sibling
from kedro_provenance.parameters import Block
from reclora_kedro.ingestion.events import TAKEN_NAMES, DeclaredColumn, EventColumn, EventSchema
from reclora_kedro.parameters import CountOrZero, Id, Real


class ImpressionList(Block):
    """How a list in the column of item ids shows impressions, such as ``N1-1 N2-0``."""

    separator: str | None = Field(min_length=1)
    clicked: str = Field(min_length=1)
    not_clicked: str = Field(min_length=1)

    @model_validator(mode="after")
    def _marks_tell_apart(self) -> Self:
        if self.clicked.endswith(self.not_clicked) or self.not_clicked.endswith(self.clicked):
            found, expected = f"is {self.clicked!r}", f" is {self.not_clicked!r}, but neither may end the other"
            advice = "Choose different ends of an item, such as '-1' and '-0'"
            raise Fault(Sibling("clicked"), found, (Sibling("not_clicked"), expected), advice)
        return self


class ClickHistory(Block):
    """The columns of clicks from before the log."""

    column: str
    separator: str | None = Field(min_length=1)


Values = list[bool | int | float | str]  # values of a raw column


class DropRule(Block):
    """Which rows are dropped by the value of a column: any of the conditions suffices. A list is one of values."""

    values: Values = Field(default=[])
    starts_with: list[Annotated[str, Field(min_length=1)]] = Field(default=[])
    at_most: Real | None = None
    at_least: Real | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_values(cls, rule: Any) -> Any:
        return {"values": rule} if isinstance(rule, list) else rule

    def __str__(self) -> str:
        bounds = [(f"is at {name[3:]}", getattr(self, name)) for name in ("at_most", "at_least")]
        words = [f"is {' or '.join(map(str, self.values))}"] if self.values else []
        words += [f"starts with {' or '.join(self.starts_with)}"] if self.starts_with else []
        return ", or ".join([*words, *(f"{comparison} {bound:g}" for comparison, bound in bounds if bound is not None)])


NAME = "[a-z][a-z0-9_]*"  # the form of the names of columns and of numbers, which features have
FIXED_NAMES = {"user_id", "item_id", "title"}  # names that no text field may have, see `history.fields.field_names`
WITHDRAWN = "withdrawn"
"""The column of canonical items that says which ones nobody gets; there is none before an item is withdrawn."""
NAMES_OF_ITEMS = FIXED_NAMES | {"rating", "liked", WITHDRAWN}
"""Names that no text field of items may have: prompts use them for items in histories, or `entities.grown_items`."""
FREE_TEXT = "description"  # the text field that is free text instead of categories shared by items or users


class InteractionColumns(Block):
    """The columns of raw_interactions for each canonical column."""

    explode: list[str] = Field(default=[])
    explode_separator: str | None = Field(default=None, min_length=1)
    drop: dict[str, DropRule] = Field(default={})
    user_id: str
    item_id: str
    unknown_ids: dict[Literal["user_id", "item_id"], list[Id]] = Field(default={"user_id": [], "item_id": []})
    rating: str | None
    clicked: str | None = None
    impressions: ImpressionList | None = None
    click_history: ClickHistory | None = None
    timestamp: str | Annotated[list[str], Field(min_length=1)]
    timestamp_format: str = Field(pattern="^(unix_(|milli|micro|nano)seconds|.*%.*)$")
    columns: dict[Annotated[str, Field(pattern=f"^{NAME}$")], DeclaredColumn] = Field(default={})

    @property
    def events(self) -> EventSchema:
        """The schema of the events."""
        columns = ({"name": name, **column.model_dump()} for name, column in self.columns.items())
        return EventSchema(tuple(map(EventColumn.model_validate, columns)))

    def of_service(self) -> Self:
        """Return how a table of the service's events is read, whose columns have the names of the schema."""
        declared = {name: column.model_copy(update={"source": None}) for name, column in self.columns.items()}
        return type(self)(
            user_id="user_id",
            item_id="item_id",
            rating="rating" if self.rating else None,
            clicked="clicked" if self.has_impressions else None,
            timestamp="timestamp",
            timestamp_format="unix_seconds",
            columns=declared,
        )

    @property
    def has_impressions(self) -> bool:
        """Whether the log has impressions without a click."""
        return self.clicked is not None or self.impressions is not None

    @property
    def timestamps(self) -> list[str]:
        """The columns of the time: one, or several such as a date and a time of day."""
        return [self.timestamp] if isinstance(self.timestamp, str) else self.timestamp

    @field_validator("columns", mode="after")
    @classmethod
    def _own_names(cls, columns: dict[str, DeclaredColumn]) -> dict[str, DeclaredColumn]:
        if reserved := sorted(TAKEN_NAMES & columns.keys()):
            found = "is a name that every log uses for something else"
            raise Fault(Sibling(reserved[0]), found, advice="Choose another name")
        return columns

    @field_validator("timestamp", mode="before")
    @classmethod
    def _in_some_order(cls, column: Any) -> Any:
        if column is None:
            raise Fault(
                Parameter("ingestion.interactions.timestamp"),
                ("is ", NULL),
                "histories are ordered by time, so a column must have the time",
                "If the data have no times, number the rows, see 'Without times' in docs/guides/swap-data.md",
            )
        return column

    @model_validator(mode="after")
    def _several_times_are_text(self) -> Self:
        if not isinstance(self.timestamp, str) and "%" not in self.timestamp_format:
            expected = f"the times in {' and '.join(self.timestamp)} are joined by blanks to one text"
            advice = "Set it to a strptime format such as '%Y-%m-%d %H:%M'"
            raise Fault(Sibling("timestamp_format"), f"is {self.timestamp_format!r}", expected, advice)
        return self

    @model_validator(mode="after")
    def _a_column_for_each(self) -> Self:
        names = {name: getattr(self, name) for name in ("user_id", "item_id", "rating", "clicked")}
        meanings = [*names.items(), *(("timestamp", column) for column in self.timestamps)]
        for column in {column for _, column in meanings if column}:
            named = [name for name, other in meanings if other == column]
            if len(named) > 1:
                found = "names the same column as ", Sibling(named[1]), f", {column!r}"
                raise Fault(Sibling(named[0]), found, advice="Give each its own column")
        return self

    @model_validator(mode="after")
    def _one_kind_of_log(self) -> Self:
        named = [name for name in ("rating", "clicked", "impressions") if getattr(self, name) is not None]
        if len(named) > 1:
            found, expected = ("excludes ", Sibling(named[1])), "a log is one of ratings or one of impressions"
            raise Fault(Sibling(named[0]), found, expected, ("Set one of them to ", NULL))
        if self.click_history is not None and self.rating is not None:
            advice = "Set it or ", Sibling("rating"), " to ", NULL
            raise Fault(Sibling("click_history"), "is for logs without ratings: its events have none", "", advice)
        return self


class PlausibleTimes(Block):
    """Range of plausible times of interactions; days are in UTC."""

    first_day: date
    last_day: date | None
    max_outside: Real = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _first_before_last(self) -> Self:
        if self.last_day is not None and self.last_day < self.first_day:
            found = f"is {self.last_day}, which is before ", Sibling("first_day"), f" {self.first_day}"
            raise Fault(Sibling("last_day"), found, advice="Swap them")
        return self


class TextField(Block):
    """One field of items or users: a column of the raw table, or several indicator columns under one name."""

    name: str
    kind: Literal["text", "number"] = "text"
    column: str | None = None
    separator: str | None = Field(default=None, min_length=1)
    indicators: list[str] | None = Field(default=None, min_length=1)
    values: dict[str, str] = Field(default={})

    @property
    def example(self) -> float | str:
        return 9.5 if self.kind == "number" else f"some {self.name}"

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        is_plain = self.separator is None and not self.values
        if self.kind == "number" and (self.column is None or not is_plain):
            raise ValueError(
                f"field {self.name!r} is a number: it has a `column`, and neither `separator` nor `values`"
            )
        if self.kind == "number" and not re.fullmatch(NAME, self.name):
            raise ValueError(f"field {self.name!r} is a number, named by lower-case letters, digits and _ only")
        if (self.column is None) == (self.indicators is None):
            raise ValueError(f"field {self.name!r} needs either a `column` or a list of `indicators`")
        if self.indicators is not None and not is_plain:
            raise ValueError(f"field {self.name!r}: `separator` and `values` need a `column`, not `indicators`")
        return self


class LongTable(Block):
    """Columns of a table with a row per property: its name and its value; properties are read as columns are."""

    property: str
    value: str


class ItemColumns(Block):
    """The columns of raw_items for the id, the title and the text fields of an item."""

    item_id: str
    long: LongTable | None = None
    title: str | None
    title_choice: Literal["first", "most_frequent", "longest"] = "first"
    missing_title: str = Field(min_length=1)
    trailing_articles: list[str]
    fields: list[TextField]

    @model_validator(mode="after")
    def _names(self) -> Self:
        _require_distinct_names(self.fields, reserved=NAMES_OF_ITEMS)
        return self


class ItemTextColumns(Block):
    """The columns of raw_item_texts, a second table of items, for the id and further text fields."""

    item_id: str
    long: LongTable | None = None
    fields: list[TextField] = Field(min_length=1)


class UserColumns(Block):
    """The columns of raw_users for the id and the profile fields of a user."""

    user_id: str
    fields: list[TextField]

    @model_validator(mode="after")
    def _names(self) -> Self:
        _require_distinct_names(self.fields, reserved=FIXED_NAMES)
        return self


class IngestionConfig(Block):
    """How raw tables become the canonical ones."""

    interactions: InteractionColumns
    items: ItemColumns
    item_texts: ItemTextColumns | None = None
    users: UserColumns | None
    plausible_times: PlausibleTimes
    rating_min: Real
    rating_max: Real
    max_ratings_outside: Real = Field(ge=0, le=1)
    max_missing: Real = Field(ge=0, le=1)
    max_share_of_one_id: Real = Field(gt=0, le=1)
    label_threshold: Real
    duplicates: Literal["highest_rating", "lowest_rating"]
    k_core: CountOrZero

    @model_validator(mode="after")
    def _threshold_splits_the_scale(self) -> Self:
        if self.interactions.rating and not self.rating_min < self.label_threshold <= self.rating_max:
            low, high = Sibling("rating_min"), Sibling("rating_max")
            found = f"is {self.label_threshold:g}, which gives only one class on a scale from {self.rating_min:g} to "
            expected = "it must lie above ", low, ", at most at ", high
            raise Fault(Sibling("label_threshold"), f"{found}{self.rating_max:g}", expected)
        return self

    @model_validator(mode="after")
    def _names_of_both_item_tables(self) -> Self:
        texts = [] if self.item_texts is None else self.item_texts.fields
        reserved = NAMES_OF_ITEMS.union(self.interactions.columns)  # which prompts have beside them
        _require_distinct_names([*self.items.fields, *texts], reserved=reserved)
        return self


def _require_distinct_names(fields: list[TextField], reserved: set[str]) -> None:
    counts = Counter(field.name for field in fields)
    repeated = sorted(name for name, count in counts.items() if count > 1 or name in reserved)
    if repeated:
        raise ValueError(f"fields need names of their own, but {repeated} occur twice or name a fixed column")
