"""Rules of a shop against a reference that looks at every item."""

import numpy as np
import polars as pl
import pytest

from reclora_kedro.candidates.moments import NO_ITEM, ItemOrder, Lists, Moments
from reclora_kedro.history.sequences import Sequences
from reclora_kedro.recommendation.rules import Rule, Ruled, check_rules, excluded_by
from ruled import expected_list, may_be_listed, suits

ITEMS = 60
GENRES = ("Drama", "Comedy", "War", "Noir")


class ByScore:
    """Lists by given scores, (moments, items)."""

    def __init__(self, scores):
        self.scores, self.asked = scores, []

    def top(self, moments, limit):
        self.asked.append(limit)
        lists = Lists.empty(len(moments), limit)
        for row, seconds in enumerate(moments.seconds.tolist()):
            best = [
                item
                for item in np.argsort(-self.scores[seconds], kind="stable")
                if moments.allows(row, np.array([item]))[0]
            ]
            lists.items[row, : len(best[:limit])] = best[:limit]
            lists.scores[row, : len(best[:limit])] = self.scores[seconds][best[:limit]]
        return lists


def some_items(random):
    genres = [", ".join(random.choice(GENRES, random.integers(0, 3), replace=False)) or None for _ in range(ITEMS)]
    price = [None if random.random() < 0.1 else float(random.integers(1, 30)) for _ in range(ITEMS)]
    return pl.DataFrame(
        {"item_id": range(ITEMS), "title": [f"film {item}" for item in range(ITEMS)], "genres": genres, "price": price},
        schema_overrides={"price": pl.Float64},
    )


RULES = [
    [{"boost": {"genres": ["War"]}, "places": 5}],
    [{"bury": {"genres": ["War", "Noir"]}, "places": 7}],
    [{"boost": {"price": {"max": 9}}, "places": 30}],
    [{"bury": {"price": {"min": 12, "max": 20}}, "places": 1}],
    [{"boost": {"genres": ["War"], "price": {"min": 3}}}, {"bury": {"genres": ["Comedy"]}, "places": 4}],
    [{"boost": {"genres": ["War"]}}, {"boost": {"price": {"min": 20}}, "places": 3}],
    [{"pin": 7}],
    [{"pin": 7, "place": 3}, {"pin": "12", "place": 2}, {"pin": 4, "place": 3}],
    [{"pin": 3, "place": 9}, {"boost": {"genres": ["Noir"]}, "places": 20}],
    [{"at_most": "genres", "items": 2}],
    [{"at_most": "genres", "items": 1}],
    [{"at_most": "genres", "items": 3}, {"pin": 5, "place": 4}],
    [{"at_most": "genres", "items": 2}, {"boost": {"price": {"max": 15}}, "places": 11}],
    [{"quota": {"genres": ["Noir"]}, "items": 4}],
    [{"quota": {"price": {"max": 3}}, "items": 2}],
    [{"quota": {"genres": ["Noir"]}, "items": 3}, {"quota": {"price": {"max": 3}}, "items": 3}],
    [{"quota": {"genres": ["War"]}, "items": 3}, {"at_most": "genres", "items": 4}],
    [{"quota": {"genres": ["War"]}, "items": 3}, {"pin": 2}, {"bury": {"genres": ["War"]}, "places": 50}],
    [{"exclude": {"genres": ["Drama"]}}, {"quota": {"genres": ["Comedy"]}, "items": 5}],
    [{"allow": {"price": {"min": 5}}}, {"at_most": "genres", "items": 2}, {"boost": {"genres": ["War"]}}],
]


@pytest.mark.parametrize("rules", RULES, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_lists_are_those_of_a_reference_that_looks_at_every_item(rules, seed):
    random = np.random.default_rng(seed)
    table, checked = some_items(random), tuple(map(Rule.model_validate, rules))
    scores = random.normal(size=(6, ITEMS))
    events = Sequences.from_columns(np.zeros(7, dtype=int))
    frame = pl.DataFrame({"user_index": range(6), "history_end": [0] * 6, "timestamp": range(6)})
    without = np.flatnonzero(excluded_by(checked, table))
    rows = {str(row["item_id"]): row for row in table.iter_rows(named=True)}
    assert without.tolist() == [place for place, row in enumerate(rows.values()) if not may_be_listed(row, rules)]
    hidden = [np.append(without, random.integers(0, ITEMS, 4)) for _ in range(6)]
    moments = Moments.from_frame(frame, events, ItemOrder(np.arange(ITEMS)), excluded=hidden)
    lists = Ruled(ByScore(scores), checked, table, shown=8).top(moments, 12)
    for row in range(6):
        ranking = [str(item) for item in np.argsort(-scores[row], kind="stable").tolist() if item not in hidden[row]]
        of_quotas = {
            number: [item for item in ranking if suits(rows[item], rule["quota"])]
            for number, rule in enumerate(rules)
            if "quota" in rule
        }
        own = lists.items[row][lists.items[row] != NO_ITEM].tolist()
        told = [
            (str(item), None if rule < 0 else rule) for item, rule in zip(own, lists.rules[row].tolist(), strict=False)
        ]
        assert told[:8] == expected_list(ranking, of_quotas, rules, rows, 8)
        if not of_quotas:
            assert own == [int(item) for item, _ in expected_list(ranking, {}, rules, rows, 12)]
        is_moved = lists.rules[row][: len(own)] >= 0
        assert np.isnan(lists.scores[row][: len(own)]).tolist() == is_moved.tolist()
        assert lists.scores[row][: len(own)][~is_moved].tolist() == scores[row][own][~is_moved].tolist()


def test_rules_are_refused_before_work_where_they_name_what_is_not_there():
    table = some_items(np.random.default_rng(0))
    for rule, message in (
        ({"boost": {"brand": ["x"]}}, r"rules\[0\]\.boost names 'brand': text fields of the items are genres"),
        ({"boost": {"genres": {"min": 1}}}, r"rules\[0\]\.boost names 'genres': numbers of the items are price"),
        ({"at_most": "price"}, r"rules\[0\]\.at_most names 'price': text fields of the items are genres"),
        ({"pin": "none"}, r"rules\[0\]\.pin is 'none': no item has this id"),
        ({"exclude": {"price": {}}}, None),
        ({"allow": {"genres": ["Western"]}}, "excludes every item: lists need at least one"),
    ):
        checked = [Rule.model_validate(rule)]
        if message is None:
            check_rules(checked, table)
            continue
        with pytest.raises(ValueError, match=message):
            check_rules(checked, table)
    for unfit in (
        {},
        {"pin": 1, "boost": {"genres": ["War"]}},
        {"pin": 1, "places": 3},
        {"quota": {"genres": ["War"]}, "place": 3},
    ):
        with pytest.raises(ValueError, match=r"Write a rule for each|does not read it"):
            Rule.model_validate(unfit)
