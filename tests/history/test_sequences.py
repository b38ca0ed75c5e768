import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedro_provenance.errors import MismatchError
from random_logs import ITEMS, USERS
from reclora_kedro.history.sequences import RatingStep, Sequences, levels_as_before, rating_levels, with_indices


@given(
    st.lists(st.integers(-20, 20), min_size=1, max_size=30),
    st.sampled_from([0.1, 0.5, 1, 3]),
    st.sampled_from([np.float32, np.float64]),
)
def test_ratings_on_a_grid_of_the_step_have_a_level_each(steps, step, kind):
    ratings = (np.array(steps) * step).astype(kind)
    levels = rating_levels(ratings, ratings, RatingStep(step=step))
    assert (levels.astype(int) == np.array(steps) - min(steps)).all()


@pytest.mark.parametrize("levels", [4, RatingStep(step=1)])
def test_levels_stay_where_no_rating_has_the_lowest_one(levels):
    ratings = np.array([1, 1, 1, 1, 2, 4, 5], dtype=np.float32)  # most are the lowest, so that two quantiles are one
    of_ratings = rating_levels(ratings, np.append(ratings, np.float32(0) if levels != 4 else []), levels)
    assert of_ratings.min() == 1
    before = Sequences.from_columns(np.array([0, 7]), rating=ratings, rating_level=of_ratings)
    np.testing.assert_array_equal(levels_as_before(ratings, before), of_ratings)
    assert levels_as_before(np.array([0.0, 9.0]), before).tolist() == [1, of_ratings[-1]]


@pytest.mark.parametrize(
    ("ratings", "levels", "message"),
    [
        (
            [0.0, 10.0],
            RatingStep(step=0.01),
            r"rating_levels has the step 0\.01, which makes 1001 levels: at most 256 .* a larger step",
        ),
        (np.arange(257) / 100, None, r"the ratings have 257 distinct values: at most 256"),
    ],
)
def test_more_levels_than_a_byte_tells_apart_are_refused(ratings, levels, message):
    with pytest.raises(ValueError, match=message):
        rating_levels(np.array(ratings), np.array(ratings), levels)


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
