"""Bodies of requests and answers, for the OpenAPI description."""

import re
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    Tag,
    model_validator,
)

from reclora_kedro.history.fields import Range
from reclora_kedro.ingestion.ids import MAX_LENGTH, id_text
from reclora_kedro.recommendation.rules import Rule
from reclora_kedro.serving.config import ModelName
from reclora_kedro.serving.models import Fallback

MAX_SECOND = 10**11  # beyond it, a number means milliseconds


def sent_id(value: Any) -> str:
    """Return an id as a log has it; raise ValueError for one that no journal can store."""
    if (text := id_text(value)) is None:
        raise ValueError("an id needs at least one character that is not blank")
    text.encode()  # half of a surrogate pair has no UTF-8
    if "\0" in text:
        raise ValueError("an id must not contain NUL, which PostgreSQL cannot store")
    return text


Id = Annotated[str, BeforeValidator(sent_id), Field(max_length=MAX_LENGTH)]
"""An id of the log; an integer stands for its digits, and blanks around it go."""


def sent_time(value: Any) -> Any:
    """Return a time as it was sent; raise ValueError for numbers that could be read in several ways."""
    if isinstance(value, str) and not re.fullmatch(r"\s*[-+]?\d+\.?\d*\s*", value):
        return value
    if type(value) is int and 0 < value < MAX_SECOND:
        return value
    raise ValueError("a time is a text with an offset, such as 2026-11-01T10:00:00Z, or whole seconds since 1970")


Time = Annotated[AwareDatetime | Annotated[int, Field(gt=0, lt=MAX_SECOND, strict=True)], BeforeValidator(sent_time)]
"""RFC 3339 with an offset, or whole seconds since the epoch."""


class Shape(BaseModel):
    """A JSON object without unknown members."""

    model_config = ConfigDict(extra="forbid")


def _example(**members: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [members]})


class PastEvent(Shape):
    """An interaction of a user; further members are the columns that the log declares, see `an_event_has`."""

    model_config = ConfigDict(extra="allow")
    item: Id
    rating: FiniteFloat | None = Field(None, strict=True, description="in logs with ratings")
    clicked: bool | None = Field(None, strict=True, description="in logs of impressions")
    time: Time | None = Field(None, description="if left out: now")


class NewEvent(PastEvent):
    """An interaction to store."""

    user: Id
    event_id: Id | None = Field(
        None,
        description="id of the event, which counts once; a different event with this id is refused; default: a new id",
    )
    request_id: Id | None = Field(None, description="request_id of the recommendation that led to the event")


class Events(Shape):
    """Interactions to store, all or none."""

    model_config = _example(events=[{"user": "42", "item": "50", "rating": 4, "event_id": "click-1"}])
    events: list[NewEvent] = Field(min_length=1)


class SentItem(Shape):
    """An item; further members are the fields and numbers that the items of the log have."""

    model_config = ConfigDict(extra="allow")
    item: Id
    title: str | None = Field(None, strict=True, description="which a new item needs, where items have titles")
    withdrawn: bool | None = Field(None, strict=True, description="whether nobody gets it")


class SentItems(Shape):
    """Items to store, all or none; what is left out or null changes nothing."""

    model_config = _example(items=[{"item": "900", "title": "Heat (1995)"}])
    items: list[SentItem] = Field(min_length=1)


class OfOneUser(Shape):
    """A user of the log, or a visitor with a history, which is not stored."""

    user: Id | None = None
    history: list[PastEvent] | None = None
    model: ModelName | None = Field(None, description="which model ranks; if left out: the configured one")
    explain: bool = Field(False, description="whether to give reasons")
    request_id: Id | None = Field(None, description="repeated in the answer; if left out: a new id")

    @model_validator(mode="after")
    def _user_or_history(self) -> Self:
        if (self.user is None) == (self.history is None):
            raise ValueError("give either a user or a history")
        return self


class Recommend(OfOneUser):
    """A request for the best items of a user."""

    model_config = _example(user="42", n=5, filter={"genres": ["Comedy", "Drama"]}, explain=True)
    n: int = Field(10, ge=1, description="maximum number of items")
    candidates: list[Id] | None = Field(None, min_length=1, description="items to choose from; if left out: all")
    exclude: list[Id] = Field([], description="items to leave out")
    filter: dict[Id, list[Id] | Range] = Field({}, description="by field: values of which the item has one, or bounds")
    rules: list[Rule] | None = Field(None, description="rules of the list, instead of `recommendation.rules`")
    include_seen: bool = Field(False, description="whether items that the user took already may be recommended")


class RecommendMany(Shape):
    """A request for the best items of many users."""

    requests: list[Recommend] = Field(min_length=1)


RecommendBody = Annotated[
    Annotated[Recommend, Tag("(one)")] | Annotated[RecommendMany, Tag("(many)")],
    Discriminator(lambda body: "(many)" if isinstance(body, dict) and "requests" in body else "(one)"),
]
"""Discriminated, so that errors refer to one shape only."""


class Score(OfOneUser):
    """Items to score for a user."""

    model_config = _example(user="42", items=["50", "172"])
    items: list[Id] = Field(min_length=1)


class Item(BaseModel):
    """An item of the log."""

    item: str
    title: str


class ScoredItem(Item):
    """An item and what orders it."""

    score: float | None = Field(
        description="higher is better: probability of a like by lens or LLM, or the method's score; null in a fallback"
    )
    rank: int | None = None
    because: dict[str, Any] | None = None
    rule: str | None = Field(None, description="the rule that moved the item, if any")


class Answered(BaseModel):
    """Members of every answer about a user."""

    user: str | None
    model: str = Field(description="what ordered the items: llm, lens, or a method such as fusion or popularity")
    score_is: str | None = Field(description="what the scores mean; null without scores")
    version: str
    as_of: datetime
    request_id: str
    unknown_items: list[str] = Field(description="unknown items of the request, which are left out")


class Recommendations(Answered):
    """The best items of a user; `fallback` says why they are the most popular ones, or why there are none."""

    method: str = Field(description="what made the list: a source, fusion or ranker")
    order: str = Field(description="lens if the lens reorders the first items, otherwise candidates")
    items: list[ScoredItem]
    fallback: Fallback | None


class ManyRecommendations(BaseModel):
    """The best items of each user, in the order of the requests."""

    answers: list[Recommendations]


class Scores(Answered):
    """Scores of the given items that are known, in their order."""

    scores: list[ScoredItem]


class Accepted(BaseModel):
    """Events that are durable."""

    accepted: int
    duplicates: int
    of_forgotten_users: int = Field(description="number of events of forgotten users, which are dropped")
    unknown_items: list[str] = Field(description="items that no table has yet; their events wait in the journal")


class StoredItems(BaseModel):
    """Items that are durable, and that answers read."""

    stored: int
    unchanged: int


class WithdrawnItem(BaseModel):
    """An item that nobody gets."""

    item: str
    note: str


class Dropped(BaseModel):
    """A user whose events no answer uses any more."""

    user: str
    deleted_from_journal: int
    note: str


class UserEvent(Item):
    """An event of a user; further members are the columns that the log declares."""

    model_config = ConfigDict(extra="allow")
    rating: float
    liked: bool
    time: datetime


class User(BaseModel):
    """A user in the current log."""

    user: str
    profile: dict[str, Any]
    events: int
    latest: list[UserEvent]
    lens_has_learned_from_user: bool | None = Field(description="null without a lens")
    gates: list[float] | None = Field(description="how the gates mix meta-LoRAs; null if they read more")


class Items(BaseModel):
    """The first items that match a text."""

    items: list[Item]
    found: int


class WeightedItem(Item):
    """An item taken by the same users."""

    weight: float


class SimilarItem(Item):
    """An item with a similar text."""

    cosine: float


class Neighbours(Item):
    """The neighbours of an item."""

    by_users: list[WeightedItem]
    by_text: list[SimilarItem]


class SimilarItems(Item):
    """Items for users who took an item, best first."""

    similar: list[ScoredItem]


class Model(BaseModel):
    """The current model; it has further members, such as its metrics."""

    version: str
    versions: dict[str, str]
    since: datetime
    method: str = Field(description="what makes the lists: a source, fusion or ranker")
    order: str = Field(description="lens if the lens reorders the first items, otherwise candidates")
    reason: str = Field(description="why this method was chosen")
    model: ModelName
    llm: str | None
    users: int
    items: int
    an_event_has: str
    example: dict[str, Any]


class Reloaded(BaseModel):
    """The current model that answers, and whether it has changed."""

    version: str
    changed: bool


class Health(BaseModel):
    """Whether the service answers."""

    status: str
    version: str | None = None
    lens: bool | None = Field(None, description="whether there is a lens, which POST /score needs")


class Problem(BaseModel):
    """Why a request is refused (RFC 9457), with further members such as found and expected."""

    type: str
    title: str
    status: int
    detail: str
