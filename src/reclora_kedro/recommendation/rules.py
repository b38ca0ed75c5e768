"""Rules of a shop: which items lists may have, which come earlier or later, and which are in each list."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Self, cast

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from kedro_provenance.errors import Fault, Parameter, Sibling
from kedro_provenance.parameters import Block
from reclora_kedro.candidates.moments import NO_ITEM, NO_RULE, Lists, Moments
from reclora_kedro.history.fields import Values, check_values, items_with
from reclora_kedro.parameters import Count, Id

if TYPE_CHECKING:
    from reclora_kedro.recommendation.second_stage import ListMaker

RULES = Parameter("recommendation.rules")


class Rule(Block):
    """A rule of all lists: one of the first seven fields says what it does, and another has its number, if any."""

    KINDS: ClassVar[Mapping[str, str | None]] = {
        **{"exclude": None, "allow": None, "boost": "places", "bury": "places"},
        **{"pin": "place", "at_most": "items", "quota": "items"},
    }
    exclude: Values | None = None  # nobody gets items with these values
    allow: Values | None = None  # nobody gets others
    boost: Values | None = None  # items with these values come so many places earlier
    bury: Values | None = None  # or later
    pin: Id | None = None  # the item stands at this place of each list that may have it
    at_most: str | None = None  # so many items of a list share a value of this field
    quota: Values | None = None  # so many items of a list, at least, have these values
    places: Count = 10
    place: Count = 1
    items: Count = 1

    @property
    def kind(self) -> str:
        return next(kind for kind in self.KINDS if getattr(self, kind) is not None)

    @property
    def moves(self) -> bool:
        return self.kind not in ("exclude", "allow")

    def __str__(self) -> str:
        about = getattr(self, self.kind)
        if isinstance(about, Mapping):
            told = {name: each if isinstance(each, Block) else ", ".join(each) for name, each in about.items()}
            about = "; ".join(f"{name} {each}" for name, each in told.items())
        return f"{self.kind} {about}"

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        given = [kind for kind in self.KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            found = f"has {' and '.join(given)}" if given else "names no kind"
            raise Fault("A rule", found, f"it has one of {', '.join(self.KINDS)}", "Write a rule for each")
        numbers = {*filter(None, self.KINDS.values())} - {self.KINDS[given[0]]}
        if unread := sorted(self.model_fields_set & numbers):
            raise Fault(Sibling(unread[0]), "is given", f"a rule of {given[0]} does not read it", "Leave it out")
        return self


class ListRequest(Block):
    """What a request says of its lists; rules of None are those of the settings."""

    filter: Values = Field(default_factory=dict)
    rules: tuple[Rule, ...] | None = None


def excluded_by(rules: Sequence[Rule], items: pl.DataFrame) -> np.ndarray:
    """Return whether rules exclude each item, or allow only others: (items,)."""
    excluded = np.zeros(items.height, dtype=bool)
    for rule in rules:
        if rule.exclude is not None:
            excluded |= items_with(items, rule.exclude)
        if rule.allow is not None:
            excluded |= ~items_with(items, rule.allow)
    return excluded


def check_rules(rules: Sequence[Rule], items: pl.DataFrame, subject: str = str(RULES)) -> None:
    """Raise a Fault for a rule that names a field or an item which there is not, or if rules exclude each item."""
    for number, rule in enumerate(rules):
        about, where = getattr(rule, rule.kind), f"{subject}[{number}].{rule.kind}"
        if rule.kind == "pin" and str(about) not in items["item_id"].cast(pl.String):
            raise Fault(where, f"is {about!r}", "no item has this id", "Name one of the table of items")
        if rule.kind != "pin":
            check_values(about if isinstance(about, Mapping) else {about: ()}, items, where)
    if items.height and excluded_by(rules, items).all():
        raise Fault(subject, "excludes every item", "lists need at least one", "Drop a rule")


@dataclass(frozen=True, eq=False)
class Ruled:
    """Lists of a method under rules that order and fill them.

    First, items move by the places of `boost` and `bury`; then, from the first on, those go of which a list has enough
    (`at_most`); then pinned items take their places; then, at the end of what is shown, others make room for a `quota`.
    """

    first: "ListMaker"
    rules: tuple[Rule, ...]
    items: pl.DataFrame
    shown: int  # first items of a list, for which quotas hold

    def top(self, moments: Moments, limit: int, shown: int | None = None) -> Lists:
        shown = self.shown if shown is None else shown
        lists = Lists.empty(len(moments), limit)._replace(rules=np.full((len(moments), limit), NO_RULE))
        earlier, later = (int((sign * self._shifts).sum(axis=0).max(initial=0) + 1) for sign in (-1, 1))
        rows, depth = np.arange(len(moments)), limit + earlier + later + len(self._pins)
        # Of the best items of a quota, more are looked at where `at_most` may refuse them.
        spare = (shown + len(self._pins)) * (10 if self._limits else 1)
        while len(rows):
            block, missing = moments[rows], list[int]()
            found = self.first.top(block, min(depth, moments.items))
            of_quotas = [self.first.top(_among(block, has), spare).items for has, _, _ in self._quotas]
            for place, row in enumerate(rows.tolist()):
                items = found.items[place]
                is_all = depth >= moments.items or items[-1] == NO_ITEM
                items = items[items != NO_ITEM]
                sure = np.inf if is_all else depth - earlier  # a place that no further item reaches
                pins = [pin for pin in self._pins if block.allows(place, np.array([pin[1]]))[0]]
                own, moved = self._arranged(items, sure, pins)
                if len(own) < limit and not is_all:
                    missing.append(row)  # there are too few that rules leave
                    continue
                own = self._filled(own, moved, [each[place] for each in of_quotas], shown)[:limit]
                score_of = dict(zip(items.tolist(), found.scores[place].tolist(), strict=False))
                lists.items[row, : len(own)] = own
                lists.scores[row, : len(own)] = [np.nan if item in moved else score_of[item] for item in own]
                lists.rules[row, : len(own)] = [moved.get(item, NO_RULE) for item in own]
            rows, depth = np.array(missing, dtype=np.int64), 4 * depth
        return lists

    def _arranged(
        self, found: np.ndarray, sure: float, pins: list[tuple[int, int, int]]
    ) -> tuple[list[int], dict[int, int]]:
        """Return the items of a list without quotas, and by item the rule that has moved it."""
        shifts = self._shifts[:, found]
        places = np.arange(len(found)) + shifts.sum(axis=0)
        order = [place for place in np.argsort(places, kind="stable").tolist() if places[place] < sure]
        moved = {int(found[each]): int(np.argmax(shifts[:, each] != 0)) for each in order if shifts[:, each].any()}
        pinned = [item for _, item, _ in pins]
        counts = self._counts(pinned)
        kept = [item for item in found[order].tolist() if item not in pinned and self._takes(counts, item)]
        for place, item, rule in pins:
            kept.insert(place, item)
            moved[item] = rule
        return kept, moved

    def _filled(self, own: list[int], moved: dict[int, int], of_quotas: list[np.ndarray], shown: int) -> list[int]:
        """Return a list with as many items of each quota as there may be among the shown; `moved` gets their rules."""
        protected = {item for _, item, _ in self._pins}
        for (has, least, rule), candidates in zip(self._quotas, of_quotas, strict=True):
            of_quota = [item for item in own[:shown] if has[item]][:least]
            protected.update(of_quota)
            for item in candidates[~np.isin(candidates, [NO_ITEM, *own[:shown]])].tolist():
                last = next((each for each in reversed(own[:shown]) if each not in protected), None)
                if len(of_quota) >= least or (last is None and len(own) >= shown):
                    break
                others = [each for each in own[:shown] if each != last or len(own) < shown]
                if self._takes(self._counts(others), item):
                    own = [*others, item, *(each for each in own if each not in {*others, item})]
                    of_quota.append(item)
                    protected.add(item)
                    moved[item] = rule
        return own

    def _takes(self, counts: Counter[tuple[int, str]], item: int) -> bool:
        """Return whether a list takes another item by the rules `at_most`; if so, count it."""
        limited = self._limited(item)
        if any(counts[rule, value] >= self.rules[rule].items for rule, value in limited):
            return False
        counts.update(limited)
        return True

    def _counts(self, items: Iterable[int]) -> Counter[tuple[int, str]]:
        return Counter(each for item in items for each in self._limited(item))

    @cached_property
    def _shifts(self) -> np.ndarray:
        """Places by which each rule moves each item, those to later ones positive: (rules, items)."""
        shifts = np.zeros((len(self.rules), self.items.height))
        for number, rule in enumerate(self.rules):
            for sign, values in ((-1, rule.boost), (1, rule.bury)):
                if values is not None:
                    shifts[number] = sign * (rule.places + 0.5) * items_with(self.items, values)
        return shifts

    @cached_property
    def _pins(self) -> list[tuple[int, int, int]]:
        """Place from 0, item and rule of the pins, as they are inserted: of one place, the first rule's comes last."""
        ids = self.items["item_id"].cast(pl.String)  # `check_rules` has found each pin among them
        pins = ((number, rule) for number, rule in enumerate(self.rules) if rule.pin is not None)
        placed = [(rule.place - 1, cast(int, ids.index_of(str(rule.pin))), number) for number, rule in pins]
        return sorted(placed, key=lambda pin: (pin[0], -pin[2]))

    @cached_property
    def _limits(self) -> list[tuple[int, pl.Series]]:
        limits = ((number, rule.at_most) for number, rule in enumerate(self.rules))
        return [(number, self.items[field]) for number, field in limits if field is not None]

    def _limited(self, item: int) -> list[tuple[int, str]]:
        """Return the rules `at_most`, each with a value of theirs, of an item."""
        texts = ((number, column[item] or "") for number, column in self._limits)
        return [(number, each.strip()) for number, text in texts for each in text.split(",") if each.strip()]

    @cached_property
    def _quotas(self) -> list[tuple[np.ndarray, int, int]]:
        """Whether items count, (items,), how many of a list do at least, and the rule, of each quota."""
        quotas = ((number, rule) for number, rule in enumerate(self.rules) if rule.quota is not None)
        return [(items_with(self.items, rule.quota or {}), rule.items, number) for number, rule in quotas]


def _among(moments: Moments, has: np.ndarray) -> Moments:
    """Return the same moments among some of the items, by a mask."""
    own = np.flatnonzero(has)
    return replace(moments, allowed=[own if only is None else only[has[only]] for only in moments.allowed])
