"""A log that is built part by part is the one that is built as a whole."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from random_logs import ITEMS, USERS, interaction_tables, with_impressions
from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.errors import MismatchError
from reclora_kedro.histories.config import HistoryConfig
from reclora_kedro.histories.log import InteractionLog, build_log
from reclora_kedro.histories.parts import build_log_in_parts


def config(**changes):
    return HistoryConfig(
        **{
            "seed": 0,
            "min_history": 1,
            "ties": "strict",
            "rating_levels": None,
            "split": {"kind": "global_time", "train": 0.6, "validation": 0.2},
            "negatives": {"kind": "none", "per_positive": 1},
            "item_embedding": {"encoders": ["tfidf"], "max_tokens": 8, "tokens_per_batch": 64, "components": 2},
            "short": {},
            "prompt_rows": {"few_shot": None, "validation": None, "test": None},
        }
        | changes
    )


def in_parts_of(rows):
    return LOCAL.model_copy(update={"rows_per_part": rows})


@given(
    interaction_tables(),
    st.integers(1, 20),
    st.sampled_from(["strict", "order"]),
    st.sampled_from(["global_time", "per_user_last_out"]),
    st.sampled_from([None, 2, {"step": 1.5}]),
    st.integers(1, 3),
    st.sampled_from(["none", "matched", "uniform"]),
)
def test_a_log_in_parts_is_the_whole_one(interactions, rows_per_part, ties, split, levels, min_history, negatives):
    interactions = interactions.sort("timestamp", "user_id", "item_id")
    settings = config(
        ties=ties,
        split={"kind": split, "train": 0.6, "validation": 0.2},
        rating_levels=levels,
        min_history=min_history,
        negatives={"kind": negatives, "per_positive": 2},
    )
    require_the_whole_one(interactions, settings, rows_per_part)


@given(
    interaction_tables(),
    st.integers(1, 20),
    st.sampled_from(["global_time", "per_user_last_out"]),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
    st.sampled_from(["esh", "eh"]),
)
def test_a_log_of_impressions_in_parts_is_the_whole_one(interactions, rows_per_part, split, min_history, random, kinds):
    rows = with_impressions(interactions, random, kinds).sort("timestamp", "user_id", "item_id")
    settings = config(
        split={"kind": split, "train": 0.4, "validation": 0.3},
        rating_levels=2,
        min_history=min_history,
        negatives={"kind": "none" if "s" in kinds else "matched", "per_positive": 1},
    )
    require_the_whole_one(rows, settings, rows_per_part)


def require_the_whole_one(interactions, settings, rows_per_part):
    try:
        whole = build_log(interactions, ITEMS, USERS, settings)
    except ValueError as error:
        with pytest.raises(ValueError, match=re.escape(str(error))):
            build_log_in_parts(interactions.lazy(), ITEMS, USERS, settings, in_parts_of(rows_per_part))
        return
    with TemporaryDirectory() as folder:
        build_log_in_parts(interactions.lazy(), ITEMS, USERS, settings, in_parts_of(rows_per_part)).save(Path(folder))
        log = InteractionLog.load(Path(folder))
    assert_frame_equal(log.samples, whole.samples)
    for name, array in vars(whole.sequences).items():
        found = getattr(log.sequences, name)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


def test_a_user_that_the_table_lacks_is_refused():
    interactions = pl.LazyFrame(
        {
            "user_id": ["ann", "zoe"] * 5,
            "item_id": 3,
            "rating": 5.0,
            "timestamp": range(1, 11),
            "label": pl.Series([1] * 10, dtype=pl.Int8),
        }
    )
    with pytest.raises(MismatchError, match=r"lacks, for example \['zoe'\]: the tables stem from different runs"):
        build_log_in_parts(interactions, ITEMS, USERS, config(), in_parts_of(4))
