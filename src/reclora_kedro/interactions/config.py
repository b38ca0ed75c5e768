"""Settings of the ingestion step."""

from collections import Counter
from datetime import date
from typing import Literal, Self

from pydantic import Field, model_validator

from reclora_kedro.parameters import Block, CountOrZero, Real


class ImpressionList(Block):
    """How the column of item ids lists everything that was shown at once, such as ``N1-1 N2-0``."""

    separator: str | None = Field(min_length=1, description="what separates the items; none: the column holds lists")
    clicked: str = Field(min_length=1, description="how an item ends that was clicked")
    not_clicked: str = Field(min_length=1, description="how an item ends that was not")

    @model_validator(mode="after")
    def _marks_tell_apart(self) -> Self:
        if self.clicked.endswith(self.not_clicked) or self.not_clicked.endswith(self.clicked):
            raise ValueError(
                f"impressions: clicked {self.clicked!r} and not_clicked {self.not_clicked!r} must be different ends of "
                "an item, such as '-1' and '-0'"
            )
        return self


class ClickHistory(Block):
    """Where raw_interactions keeps what a user had clicked before the log begins."""

    column: str = Field(description="column that lists the items' ids, the oldest first")
    separator: str | None = Field(min_length=1, description="what separates the ids; none: the column holds lists")


class InteractionColumns(Block):
    """Where raw_interactions keeps each canonical column."""

    user_id: str = Field(description="column of the user's id")
    item_id: str = Field(description="column of the item's id")
    rating: str | None = Field(description="column of the rating; none: every row is a like, such as a purchase")
    clicked: str | None = Field(default=None, description="0/1 column: whether what was shown was clicked")
    impressions: ImpressionList | None = Field(default=None, description="how item_id lists all that was shown at once")
    click_history: ClickHistory | None = Field(default=None, description="what was clicked before the log, undated")
    timestamp: str = Field(description="column of the time of the rating")
    timestamp_format: str = Field(
        pattern=r"^(unix_(|milli|micro|nano)seconds|.*%.*)$",
        description="unix_seconds, also milli-, micro- or nanoseconds, or a strptime format for text",
    )

    @property
    def has_impressions(self) -> bool:
        """Whether the log says what was shown and not clicked."""
        return self.clicked is not None or self.impressions is not None

    @model_validator(mode="after")
    def _one_kind_of_log(self) -> Self:
        named = [name for name in ("rating", "clicked", "impressions") if getattr(self, name) is not None]
        if len(named) > 1:
            raise ValueError(
                f"interactions: {' and '.join(named)} exclude one another, as a log is one of ratings or one of "
                "impressions: set all but one of them to null"
            )
        if self.click_history is not None and self.rating is not None:
            raise ValueError(
                "interactions: click_history is for logs without ratings, as its events have none: set rating or "
                "click_history to null"
            )
        return self


class PlausibleTimes(Block):
    """Which times of interactions are believed; days are in UTC."""

    first_day: date = Field(description="rows of earlier days are dropped")
    last_day: date | None = Field(description="rows of later days are dropped; none: later than a year from now")
    max_outside: Real = Field(
        ge=0, le=1, description="share of rows outside that is dropped and counted; more of them refuse the run"
    )

    @model_validator(mode="after")
    def _first_before_last(self) -> Self:
        if self.last_day is not None and self.last_day < self.first_day:
            raise ValueError(
                f"plausible_times: last_day {self.last_day} is before first_day {self.first_day}: exchange them"
            )
        return self


class TextField(Block):
    """One text field: a column of the raw table, or several indicator columns gathered under one name."""

    name: str = Field(description="name of the field in the canonical table; `description`: free text, no category")
    column: str | None = Field(default=None, description="column that holds the text, or a list of texts")
    separator: str | None = Field(default=None, min_length=1, description="what separates several values in it")
    indicators: list[str] | None = Field(
        default=None, min_length=1, description="0/1 columns; the field lists the names of those set"
    )
    values: dict[str, str] = Field(
        default={}, description="what a coded value stands for, empty where for nothing; others stay as they are"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.column is None) == (self.indicators is None):
            raise ValueError(f"field {self.name!r} needs either a `column` or a list of `indicators`")
        if self.indicators is not None and (self.separator is not None or self.values):
            raise ValueError(f"field {self.name!r}: `separator` and `values` want a `column`, not `indicators`")
        return self


class ItemColumns(Block):
    """Where raw_items keeps the id, the title and the text fields of an item."""

    item_id: str = Field(description="column of the item's id")
    title: str = Field(description="column of the title")
    missing_title: str = Field(min_length=1, description="title of an item that has none")
    trailing_articles: list[str] = Field(
        description="articles moved from the end of a title to its front; none: titles stay as they are"
    )
    fields: list[TextField] = Field(description="text fields")

    @model_validator(mode="after")
    def _names(self) -> Self:
        _require_distinct_names(self.fields, taken={"item_id", "title"})
        return self


class ItemTextColumns(Block):
    """Where raw_item_texts, a second table of items, keeps the id and further text fields of an item."""

    item_id: str = Field(description="column of the item's id")
    fields: list[TextField] = Field(min_length=1, description="text fields")


class UserColumns(Block):
    """Where raw_users keeps the id and the profile fields of a user."""

    user_id: str = Field(description="column of the user's id")
    fields: list[TextField] = Field(description="profile fields")

    @model_validator(mode="after")
    def _names(self) -> Self:
        _require_distinct_names(self.fields, taken={"user_id"})
        return self


class IngestionConfig(Block):
    """How raw tables become the canonical ones."""

    interactions: InteractionColumns
    items: ItemColumns
    item_texts: ItemTextColumns | None = Field(default=None, description="none: raw_items describes items alone")
    users: UserColumns | None = Field(description="none: the data has no user table")
    plausible_times: PlausibleTimes
    rating_min: Real = Field(description="lowest rating of the scale")
    rating_max: Real = Field(description="highest rating of the scale")
    label_threshold: Real = Field(description="a rating at or above it is a like")
    duplicates: Literal["highest_rating", "lowest_rating"] = Field(
        description="which of several rows with one user, item and timestamp is kept; of impressions, a click"
    )
    k_core: CountOrZero = Field(description="least rows of a user and of an item; 0 or 1: off")

    @model_validator(mode="after")
    def _threshold_splits_the_scale(self) -> Self:
        if not self.rating_min < self.label_threshold <= self.rating_max:
            raise ValueError(
                f"label_threshold {self.label_threshold:g} gives one class only on a scale from "
                f"{self.rating_min:g} to {self.rating_max:g}: it must lie above rating_min, at most at rating_max"
            )
        return self

    @model_validator(mode="after")
    def _names_of_both_item_tables(self) -> Self:
        if self.item_texts is not None:
            _require_distinct_names([*self.items.fields, *self.item_texts.fields], taken={"item_id", "title"})
        return self


def _require_distinct_names(fields: list[TextField], taken: set[str]) -> None:
    counts = Counter(field.name for field in fields)
    repeated = sorted(name for name, count in counts.items() if count > 1 or name in taken)
    if repeated:
        raise ValueError(f"fields need names of their own, but {repeated} occur twice or name a fixed column")
