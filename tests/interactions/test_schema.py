"""Contracts on canonical and raw tables."""

from itertools import pairwise

import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandera.errors import SchemaErrors

from reclora_kedro.interactions.schema import Interactions, Items, RawTable, Users, comes_after_previous

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
    assert Items.validate(ITEMS, lazy=True).equals(ITEMS)
    assert Users.validate(USERS, lazy=True).equals(USERS)
    assert Users.validate(USERS.select("user_id"), lazy=True).width == 1


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        (LOG.drop("label"), "label"),
        (LOG.with_columns(extra=1), "extra"),
        (LOG.with_columns(pl.col("user_id").cast(pl.Float64)), "Int64 or String"),
        (LOG.with_columns(rating=pl.lit(None, pl.Float64)), "rating"),
        (LOG.with_columns(timestamp=pl.lit(0)), "timestamp"),
        (LOG.with_columns(label=pl.lit(2, pl.Int8)), "label"),
        (LOG.reverse(), "not unique and sorted"),
        (pl.concat([LOG, LOG.tail(1)]), "not unique and sorted"),
    ],
    ids=["missing", "extra", "id type", "null", "timestamp", "label", "unsorted", "repeated"],
)
def test_interactions_refuses(broken: pl.DataFrame, named: str) -> None:
    with pytest.raises(SchemaErrors, match=named):
        Interactions.validate(broken, lazy=True)


@pytest.mark.parametrize(
    ("model", "broken", "named"),
    [
        (Items, ITEMS.with_columns(title=pl.lit("")), "title"),
        (Items, ITEMS.with_columns(title=pl.lit(None, pl.String)), "title"),
        (Items, ITEMS.reverse(), "item_id is not unique and sorted"),
        (Items, ITEMS.with_columns(year=1979), "text field"),
        (Users, pl.concat([USERS, USERS.tail(1)]), "user_id is not unique and sorted"),
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


class TestRawTable:
    contract = RawTable(columns={"movieId": "Int64", "title": "String"})

    @pytest.mark.parametrize("frame", [pl.DataFrame, pl.LazyFrame, pd.DataFrame])
    def test_any_frame_comes_out_as_polars(self, frame: type) -> None:
        checked = self.contract.validate(frame({"movieId": [1], "title": ["Alien"], "unused": [0.5]}))
        assert isinstance(checked, pl.DataFrame)
        assert checked.rows() == [(1, "Alien", 0.5)]

    def test_values_may_be_missing(self) -> None:
        assert self.contract.validate(pl.DataFrame({"movieId": [1, None], "title": [None, "b"]})).height == 2

    def test_names_every_missing_and_wrong_column_and_what_it_found(self) -> None:
        with pytest.raises(ValueError, match="movieId") as refusal:
            self.contract.validate(pl.DataFrame({"movieID": [1], "title": [3]}))
        message = str(refusal.value)
        assert "no column 'movieId'" in message
        assert "expected column 'title' to have type String, got Int64" in message
        assert "columns found: movieID (Int64), title (Int64)" in message
        assert "validator.options.columns" in message

    def test_unknown_type_is_refused_at_once(self) -> None:
        with pytest.raises(ValueError, match=r"polars types.*\['Int'\]"):
            RawTable(columns={"movieId": "Int"})
