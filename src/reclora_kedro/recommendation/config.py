"""Settings of the recommendation and ranking steps."""

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase, translate
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import polars as pl
from pydantic import AfterValidator, Field, model_validator

from kedro_provenance.errors import Fault, Parameter, Sibling, Value, worded
from kedro_provenance.parameters import Block, nearest_path
from reclora_kedro.candidates import ITEM_MODELS
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.taken_items import Rules
from reclora_kedro.ingestion.config import WITHDRAWN
from reclora_kedro.ingestion.ids import listed, typed
from reclora_kedro.parameters import Count, EachOnce, Id, Positive, Real, Seed, Share
from reclora_kedro.recommendation.rules import Rule, check_rules, excluded_by

logger = logging.getLogger(__name__)

EXCLUDE_ITEMS, USERS = Parameter("recommendation.exclude_items"), Parameter("recommendation.users")

SECOND_STAGES = ("fusion", "ranker")  # orders of the best items of all sources
RERANKED = "_lens"  # suffix of the name of an order whose first items the lens has reranked
Protocol = Literal["live", "published"]
"""What models know of a like when they are taught and measured, see `item_ranks.moments_of`."""
Order = Literal["candidates", "lens"]  # order of the first items of a list: as they are found, or by the lens


def method_name(kind: str, order: Order) -> str:
    """Return what tables call the lists of a source or a second stage in an order."""
    return kind + (RERANKED if order == "lens" else "")


class RecommendationConfig(Block):
    """Which users to recommend items to, which items, and in which order."""

    teaching_likes: ClassVar[int] = 5000  # that train fusion and ranker: a bound of the time that trees take

    sources: Annotated[tuple[Annotated[str, AfterValidator(ITEM_MODELS.require)], ...], Field(min_length=1), EachOnce]
    method: str
    order: Order
    candidates: Literal["catalogue", "table"]
    protocol: Protocol
    repeat: bool
    exclude_items: tuple[Id, ...]
    rules: tuple[Rule, ...]
    variant: str | None
    users: tuple[Id, ...] | None = Field(min_length=1)
    validation_likes: Count | None
    shortlist: Count
    top_n: Count
    diversity: Real = Field(ge=0, lt=1)
    seed: Seed

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sources: of a dotted path, its last part."""
        return tuple(source.rpartition(".")[2] for source in self.sources)

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods to compare: the named one, or each source and second stage."""
        return (*self.names, *SECOND_STAGES) if self.method == "validation" else (self.method,)

    def excluded(self, items: pl.DataFrame) -> np.ndarray:
        """Return the indices of withdrawn items, and of those that rules or `exclude_items` (ids, patterns) exclude."""
        named = listed(self.exclude_items, "item_id", EXCLUDE_ITEMS).to_list()
        ids = items["item_id"].cast(pl.String)
        is_excluded = ids.is_in(named).to_numpy().copy()
        if patterns := [translate(each) for each in named if {*each} & {*"*?["}]:
            matches = re.compile("|".join(patterns)).match
            is_excluded |= [matches(item) is not None for item in ids.to_list()]
        if WITHDRAWN in items.columns:
            is_excluded |= items[WITHDRAWN].fill_null(False).to_numpy()
        return np.flatnonzero(is_excluded | excluded_by(self.rules, items))

    def check_ids(self, users: pl.DataFrame, items: pl.DataFrame) -> None:
        """Warn of ids and patterns of `exclude_items` that are those of no item, as mistyped ones are.

        Fault is raised for an id of `exclude_items` or `users` that is written in another way than the log's.
        """
        named = listed(self.exclude_items, "item_id", EXCLUDE_ITEMS)
        check_rules(self.rules, items)
        typed(named, items.schema["item_id"], EXCLUDE_ITEMS)
        typed(listed(self.users or (), "user_id", USERS), users.schema["user_id"], USERS)
        found = {*items["item_id"].cast(pl.String).gather(self.excluded(items)).to_list()}
        if unmatched := [
            each for each in named if each not in found and not any(fnmatchcase(item, each) for item in found)
        ]:
            count = f"{len(unmatched)} of {len(self.exclude_items)} ids and patterns of "
            written = f"the {items.height:,} items are written like {', '.join(map(str, items['item_id'].head(3)))}"
            fault = f" match no item, such as {unmatched[0]}, so they exclude nothing: correct them, or leave them out."
            logger.warning(worded(count, EXCLUDE_ITEMS, f"{fault} Ids of {written}."))

    def under(self, rules: Sequence[Rule] | None) -> Self:
        """Return the settings with other rules; None for these."""
        return self if rules is None else self.model_copy(update={"rules": tuple(rules)})

    def as_read(self, log: InteractionLog) -> InteractionLog:
        """Return a log as models read it: under the published protocol without a clock, whose times hold no ages."""
        return log if self.protocol == "live" else replace(log, shared_clock=False)

    def rules_of(self, items: pl.DataFrame) -> Rules:
        return Rules(self.repeat, self.excluded(items))

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        reserved = {"validation", "lens", *SECOND_STAGES}
        for source, name in zip(self.sources, self.names, strict=True):
            if self.names.count(name) > 1 or name in reserved or name.endswith(RERANKED):
                raise Fault(
                    Sibling("sources"),
                    f"names {source}, but another source or method has the name {name}",
                    advice=f"Give its module another name, other than {', '.join(sorted(reserved))} and not "
                    f"ending in {RERANKED}",
                )
        return self

    @model_validator(mode="after")
    def _method_exists(self) -> Self:
        known = ("validation", *self.names, *SECOND_STAGES)
        if self.method not in known:
            expected = f"it must be one of {', '.join(known)}; the nearest one is {nearest_path(self.method, known)}"
            raise Fault(Sibling("method"), f"is {self.method!r}", expected)
        return self

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        if self.variant is not None and any(rule.moves for rule in self.rules):
            found = ("is ", Value(self.variant), ", whose LLM orders lists after ", Sibling("rules"), " have")
            raise Fault(Sibling("variant"), found, "only exclude and allow rules hold there", "Drop the others")
        return self

    @model_validator(mode="after")
    def _enough_candidates_are_kept(self) -> Self:
        if self.shortlist < self.top_n:
            found, top = f"keeps {self.shortlist} candidates of each user", Sibling("top_n")
            raise Fault(Sibling("shortlist"), found, (top, f" recommends {self.top_n}"), "Raise it")
        return self


class RankingConfig(Block):
    """Likes of the test split to rank, their candidates, the models, and the metrics."""

    rows: Count | None
    candidates: Literal["full"] | Count
    cutoffs: Annotated[tuple[Count, ...], Field(min_length=1), EachOnce]
    variant: str | None
    lens: bool
    baseline: str | None
    among_first: tuple[Count, ...]
    seed: Seed


class BacktestConfig(Block):
    """Windows at the end of the log, before each of which all models are fitted anew."""

    windows: Annotated[Count, Field(ge=2)]
    share: Annotated[Share, Field(gt=0)]
    days: Positive | None
    likes: Count | None
