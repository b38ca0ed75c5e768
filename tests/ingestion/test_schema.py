"""Contracts on canonical tables."""

from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandera.errors import SchemaError, SchemaErrors

from reclora_kedro.ingestion.events import comes_after_previous
from reclora_kedro.ingestion.schema import Interactions, Items, Users

LOG = pl.DataFrame(
    {
        "user_id": [2, 1, 2],
        "item_id": [7, 7, 8],
        "rating": [4.0, 2.5, 1.0],
        "timestamp": [10, 11, 11],
        "label": pl.Series([1, 0, 0], dtype=pl.Int8),
    }
)
ITEMS = pl.DataFrame({"item_id": ["a", "b"], "title": ["Alien", "Brazil"], "genres": ["Horror, Sci-Fi", None]})
USERS = pl.DataFrame({"user_id": [1, 2], "age": ["24", None]})


def test_canonical_tables_pass() -> None:
    assert Interactions.validate(LOG, lazy=True).equals(LOG)
    shown = LOG.with_columns(rating=pl.Series([None, 2.5, 1.0]), label=pl.Series([0, None, 0], dtype=pl.Int8))
    assert Interactions.validate(shown, lazy=True).equals(shown)
    assert Items.validate(ITEMS, lazy=True).equals(ITEMS)
    assert Users.validate(USERS, lazy=True).equals(USERS)
    assert Items.validate(ITEMS.reverse(), lazy=True).equals(ITEMS.reverse())
    assert Users.validate(USERS.select("user_id"), lazy=True).width == 1


def test_a_lazy_log_is_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reclora_kedro.ingestion.schema.ROWS_AT_ONCE", 2)
    long = pl.concat([LOG, LOG.with_columns(timestamp=pl.col("timestamp") + 5)])
    assert Interactions.validate(long.lazy()).collect().equals(long)
    moment = pl.concat(
        [
            LOG.with_columns(user_id=pl.lit(1, pl.Int64), timestamp=pl.lit(9, pl.Int64), item_id=pl.Series(items))
            for items in ([3, 2, 1], [6, 5, 4])
        ]
    )
    assert Interactions.validate(moment.lazy()).collect().equals(moment)  # in the order of the raw log
    with pytest.raises((SchemaError, SchemaErrors), match="not unique by"):
        Interactions.validate(pl.concat([moment, moment.head(1)]).lazy())  # in another part
    for row in range(1, 6):  # the events of each two rows change places
        order = [*range(row - 1), row, row - 1, *range(row + 1, 6)]
        with pytest.raises((SchemaError, SchemaErrors)):
            Interactions.validate(long[order].lazy())


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        (LOG.drop("label"), "label"),
        (LOG.with_columns(extra=1), "extra"),
        (LOG.with_columns(pl.col("user_id").cast(pl.Float64)), "Int64 or String"),
        (LOG.with_columns(rating=pl.lit(None, pl.Float64)), "rating"),
        (LOG.with_columns(rating=None, label=pl.lit(None, pl.Int8)).cast({"rating": pl.Float64}), "without a rating"),
        (LOG.with_columns(timestamp=pl.lit(0)), "timestamp"),
        (LOG.with_columns(label=pl.lit(2, pl.Int8)), "label"),
        (LOG.reverse(), "not unique by"),
        (pl.concat([LOG, LOG.tail(1)]), "not unique by"),
    ],
    ids=[
        "missing",
        "extra",
        "id type",
        "liked without a rating",
        "neither rating nor label",
        "timestamp",
        "label",
        "unsorted",
        "repeated",
    ],
)
def test_interactions_refuses(broken: pl.DataFrame, named: str) -> None:
    with pytest.raises(SchemaErrors, match=named):
        Interactions.validate(broken, lazy=True)


@pytest.mark.parametrize(
    ("model", "broken", "named"),
    [
        (Items, ITEMS.with_columns(title=pl.lit("")), "title"),
        (Items, ITEMS.with_columns(title=pl.lit(None, pl.String)), "title"),
        (Items, pl.concat([ITEMS, ITEMS.head(1)]), "field_uniqueness"),
        (Items, ITEMS.with_columns(year=1979), "a field is neither"),
        (Users, pl.concat([USERS, USERS.tail(1)]), "field_uniqueness"),
        (Users, USERS.with_columns(age=24), "profile field"),
    ],
)
def test_items_and_users_refuse(model: type[Items] | type[Users], broken: pl.DataFrame, named: str) -> None:
    with pytest.raises(SchemaErrors, match=named):
        model.validate(broken, lazy=True)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)), min_size=1))
def test_comes_after_previous_is_tuple_order(keys: list[tuple[int, int, int]]) -> None:
    table = pl.DataFrame(keys, schema=["a", "b", "c"], orient="row")
    after = table.select(comes_after_previous(["a", "b", "c"])).to_series().to_list()
    assert after == [True, *(now > before for before, now in pairwise(keys))]
