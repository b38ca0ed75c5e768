import numpy as np
import polars as pl
import pytest

from kedro_provenance.errors import MismatchError
from random_logs import ITEMS, USERS
from reclora_kedro.history.sequences import Sequences, levels_as_before, rating_levels, with_indices


@pytest.mark.parametrize("levels", [4, None])
def test_levels_stay_where_no_rating_has_the_lowest_one(levels):
    ratings = np.array([1, 1, 1, 1, 2, 4, 5], dtype=np.float32)  # most are the lowest, so that two quantiles are one
    of_ratings = rating_levels(ratings, np.append(ratings, np.float32(0) if levels != 4 else []), levels)
    assert of_ratings.min() == 1
    before = Sequences.from_columns(np.array([0, 7]), rating=ratings, rating_level=of_ratings)
    np.testing.assert_array_equal(levels_as_before(ratings, before), of_ratings)
    assert levels_as_before(np.array([0.0, 9.0]), before).tolist() == [1, of_ratings[-1]]


def test_more_levels_than_a_byte_tells_apart_are_refused():
    ratings = np.arange(257) / 100
    with pytest.raises(ValueError, match=r"the ratings have 257 distinct values: at most 256"):
        rating_levels(ratings, ratings, None)


@pytest.mark.parametrize(
    ("column", "foreign", "message"),
    [
        ("item_id", 4, r"interactions name 1 values of item_id that the items table lacks, for example \[4\]: .*runs"),
        ("user_id", "eve", r"1 values of user_id that the users table lacks, for example \['eve'\]"),
    ],
)
def test_an_id_that_its_table_lacks_is_refused(column, foreign, message):
    with pytest.raises(MismatchError, match=message) as refusal:
        with_indices(pl.DataFrame({"user_id": ["ann"], "item_id": [3]} | {column: [foreign]}), user=USERS, item=ITEMS)
    assert refusal.value.entries == ("interactions", f"{column.removesuffix('_id')}s")
