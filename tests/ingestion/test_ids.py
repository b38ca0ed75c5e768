"""Ids mean one thing, whichever way they come."""

import re
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reclora_kedro.ingestion.ids import BLANKS, MAX_LENGTH, IdError, canonical, id_text, listed

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?")
TEXTS = st.text(st.sampled_from([*"0018+-e.a@=", "\xa0", " ", "\u2028", "é", "\U0001f469"]), max_size=6)


def means_a_whole_number(text):
    return text is not None and NUMBER.fullmatch(text) and float(text) % 1 == 0 and abs(float(text)) < 2**63


def test_blanks_are_those_of_unicode():
    spaces = [chr(code) for code in range(0x110000) if chr(code).isspace() and not 0x1C <= code <= 0x1F]
    assert sorted(spaces) == sorted(BLANKS)


@example("018")
@example("-0")
@given(TEXTS)
def test_a_text_is_one_id_alone_and_in_a_column_however_often_it_is_read(text):
    [column] = canonical(pl.Series([text]))
    assert column == id_text(text)
    assert canonical(pl.Series([column], dtype=pl.String)).to_list() == [column]
    categories = pl.Series([text], dtype=pl.Categorical)
    assert canonical(categories).to_list() == [column]
    [number] = canonical(pl.Series([text]), pl.Int64(), strict=False)
    assert number is None or str(number) == column
    if (
        number is None
        and column is not None
        and NUMBER.fullmatch(column)
        and float(column) % 1 == 0
        and abs(float(column)) < 2**63
    ):
        with pytest.raises(IdError, match="whole numbers: write "):  # it may mean another one
            canonical(pl.Series([text]), pl.Int64())
    else:
        assert canonical(pl.Series([text]), pl.Int64()).to_list() == [number]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (18, "18"),
        (18.0, "18"),
        (np.int32(18), "18"),
        (np.float32(18), "18"),
        (Decimal("18.0"), "18"),
        (2**70, str(2**70)),
        (np.str_("\xa0+491701234 "), "+491701234"),
        ("nan", "nan"),
        (uuid.UUID(int=7), str(uuid.UUID(int=7))),
        (None, None),
        (float("nan"), None),
        (pd.NA, None),
        (pd.NaT, None),
        (" \u3000", None),
    ],
)
def test_values_of_a_script(value, text):
    assert id_text(value) == text
    assert listed([value], "user_id", "users").to_list() == [text]


@pytest.mark.parametrize("value", [True, np.True_, 1.5, float("inf"), 1e17, b"ann", ["ann"], {"ann": 1}])
def test_what_is_no_id_is_refused_by_what_it_is(value):
    with pytest.raises(ValueError, match=r"users: .* is not an id: ids are whole numbers or text\. Correct the ids"):
        listed([value], "user_id", "users")


def test_ids_that_no_door_takes_are_refused_where_a_table_is_read():
    assert canonical(pl.Series(["x" * MAX_LENGTH])).len() == 1
    for text in ("x" * (MAX_LENGTH + 1), "a\0b"):
        with pytest.raises(IdError, match="at most 200 characters, and none that is NUL"):
            canonical(pl.Series([text]))


def test_ids_of_another_type_are_none_of_a_log():
    assert canonical(pl.Series(["18", "ann", None, str(2**63)]), pl.Int64()).to_list() == [18, None, None, None]
    assert canonical(pl.Series([18, None]), pl.String()).to_list() == ["18", None]
    objects = pl.Series([" ann", 18, None], dtype=pl.Object)
    assert canonical(objects).to_list() == ["ann", "18", None]
