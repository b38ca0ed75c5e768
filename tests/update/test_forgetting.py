"""What is left once users are forgotten is what would be there had they never come."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from cleaned_tables import SETTINGS, clean_interactions, describe_items, describe_users
from kedro_provenance.errors import MismatchError
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.log_builder import Growth, build_log
from reclora_kedro.history.rating_statistics import RatingStatistics
from reclora_kedro.history.sequences import user_of_events
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.lens.base import load_lens
from reclora_kedro.lens.features import fresh_lens
from reclora_kedro.lens.states import lens_states
from reclora_kedro.update.forgetting import (
    Tables,
    forget_in_lens,
    forget_in_log,
    forget_in_tables,
    keep_item_vectors,
    kept_rows,
    require_users,
    split_moments,
)
from reference_log import reference_log

# Item 3 is in no row, 8 in no interaction, and of 2 the table says nothing.
RAW_ITEMS = pl.DataFrame({"i": [1, 2, 8, 9], "name": ["Heat", None, None, "Net"]})
ITEMS = pl.DataFrame({"item_id": range(40), "title": [f"Item {item}" for item in range(40)]})
USERS = pl.DataFrame({"user_id": [f"u{user:02}" for user in range(12)]})
RAW_USERS = pl.DataFrame({"u": ["ann", "bob", "cid"], "age": [20, 30, 40]})


def ingested(raw, k_core):
    users = {"user_id": "u", "fields": [{"name": "age", "column": "age"}]}
    ingestion = IngestionConfig(**SETTINGS | {"k_core": k_core, "users": users})
    interactions, _ = clean_interactions(raw, ingestion)
    users, _ = describe_users(RAW_USERS, interactions, ingestion.users)
    items, _ = describe_items(RAW_ITEMS, interactions, ingestion.items)
    return Tables(interactions.lazy(), items, users), ingestion


row = st.tuples(st.sampled_from(["ann", "bob", "cid", "dora"]), st.sampled_from([1, 2, 3]), st.integers(1, 5))


@given(rows=st.lists(row, min_size=4, max_size=16), k_core=st.sampled_from([0, 2]))
def test_tables_are_those_of_a_log_that_never_had_the_users(rows, k_core):
    raw = pl.DataFrame(rows, ["u", "i", "r"], orient="row").with_columns(t=pl.int_range(1, pl.len() + 1))
    try:
        before, ingestion = ingested(raw, k_core)
        never, _ = ingested(raw.filter(~pl.col("u").is_in(["ann", "cid"])), k_core)
    except ValueError:  # nothing is left, or no id is in its table
        assume(False)
    after = forget_in_tables(before, ["ann", "cid"], ingestion)
    logged = [set(tables.interactions.collect()["item_id"]) for tables in (before, never)]
    expected = never.items.filter(~pl.col("item_id").is_in({2} & (logged[0] - logged[1])))
    assert_frame_equal(after.interactions.collect(), never.interactions.collect(), check_exact=True)
    assert_frame_equal(after.users, never.users, check_exact=True)
    assert_frame_equal(after.items, expected, check_exact=True)


def test_a_log_of_nobody_is_refused():
    tables, ingestion = ingested(pl.DataFrame({"u": ["ann"], "i": [1], "r": [4], "t": [1]}), 0)
    with pytest.raises(ValueError, match="no interaction is left"):
        forget_in_tables(tables, ["ann"], ingestion)


def history(negatives, split):
    return HistoryConfig(
        seed=0,
        min_history=1,
        shared_clock=True,
        ties="strict",
        rating_levels=None,
        split={"kind": split, "train": 0.6, "validation": 0.2},
        negatives={"kind": negatives, "per_positive": 1},
        item_embedding={"encoders": ["tfidf"], "max_tokens": 8, "tokens_per_batch": 64, "components": 2},
        short={},
        prompt_rows={"unit": "likes", "few_shot": None, "validation": None, "test": None},
    )


def random_interactions():
    random = np.random.default_rng(0)
    users, items = random.choice(USERS["user_id"].to_list(), 400), random.choice(ITEMS["item_id"].to_list(), 400)
    rows = pl.DataFrame({"user_id": users, "item_id": items, "rating": random.choice([0.5, 2.0, 3.5, 5.0], 400)})
    rows = rows.with_columns(
        timestamp=pl.Series(random.integers(1, 90, 400)), label=(pl.col("rating") > 3).cast(pl.Int8)
    )
    return rows.unique(["timestamp", "user_id", "item_id"]).sort("timestamp", "user_id", "item_id")


@pytest.mark.parametrize("negatives", ["none", "matched"])
@pytest.mark.parametrize("split", ["global_time", "per_user_last_out"])
def test_log_and_statistics_are_those_of_a_log_that_never_had_the_user(negatives, split):
    config, rows = history(negatives, split), random_interactions()
    if negatives != "none":  # which are drawn where the log has likes alone
        rows = rows.with_columns(rating=pl.lit(1.0), label=pl.lit(1, pl.Int8))
    others = pl.col("user_id") != "u05"
    never = Tables(rows.filter(others).lazy(), ITEMS, USERS.filter(others))
    before = build_log(rows, ITEMS, USERS, config)
    after = forget_in_log(never, before, config)
    moments = split_moments(before)
    assert (moments is None) == (split == "per_user_last_out")
    expected = build_log(*never, config, growth=Growth(before.sequences, *moments) if moments else None)
    assert len(np.unique(expected.sequences.rating_level)) == (4 if negatives == "none" else 1)
    for name in ("items", "users", "samples"):
        assert_frame_equal(getattr(after, name), getattr(expected, name), check_exact=True)
    for name, array in vars(expected.sequences).items():
        np.testing.assert_array_equal(getattr(after.sequences, name), array)
    statistics = [RatingStatistics(log).compute(log.samples) for log in (after, expected)]
    assert_frame_equal(*statistics, check_exact=True)


def test_what_was_trained_on_is_never_tested_on():
    config, rows = history("none", "global_time"), random_interactions()
    others = pl.col("user_id") != "u05"
    before = build_log(rows, ITEMS, USERS, config)
    after = forget_in_log(Tables(rows.filter(others).lazy(), ITEMS, USERS.filter(others)), before, config)
    kept = before.samples.filter(pl.col("user_index") != 5)
    assert kept["split"].equals(after.samples["split"])
    again = build_log(rows.filter(others), ITEMS, USERS.filter(others), config)
    assert not kept["split"].equals(again.samples["split"])


def without(log, user):
    """The log without a user, and the samples that are left of it."""
    index, events = user_of_events(log.sequences.offsets), log.sequences
    kept = index != user
    rows = {"user_id": index, "item_id": events.item_index, "rating": events.rating}
    rows = pl.DataFrame(rows | {"timestamp": events.timestamp, "label": events.label}).filter(kept)
    left = reference_log(rows, log.items, log.users.filter(pl.col("user_id") != user), min_history=3)
    left = replace(left, sequences=replace(left.sequences, rating_level=events.rating_level[kept]))
    return left.with_embeddings(log.item_embeddings), log.samples.filter(pl.col("user_index") != user)


@pytest.mark.parametrize("statistics", [False, True])
def test_the_lens_scores_the_others_as_before(log, config, tmp_path, statistics):
    user = 7
    log = replace(log, users=log.users.with_columns(zip_code=pl.format("z{}", "user_id")))
    settings = config.model_copy(update={"rating_statistics": statistics, "field_min_count": 1})
    lens = fresh_lens(log, settings)[0].freeze()
    left, samples = without(log, user)
    kept = forget_in_lens(lens, log, left)
    before, after = lens_states(lens, log, samples), lens_states(kept, left, left.samples)
    if statistics:  # but where the user had rated the item, or one of the history, before
        offsets, item_index, timestamp = (vars(log.sequences)[name] for name in ("offsets", "item_index", "timestamp"))
        rated = np.full(log.items.height, np.iinfo(np.int64).max)
        rated[item_index[offsets[user] : offsets[user + 1]]] = timestamp[offsets[user] : offsets[user + 1]]
        read = [
            rated[[item, *item_index[offsets[of] : end]]].min()
            for of, item, end in samples.select("user_index", "item_index", "history_end").iter_rows()
        ]
        untouched = np.array(read) >= samples["timestamp"].to_numpy()
        same = (before["logit"] == after["logit"]).numpy()
        assert untouched.sum() > 5
        assert same[untouched].all()
        assert not same.all()
    else:
        assert all(torch.equal(before[kind], after[kind]) for kind in before.keys() - {"row", "field:zip_code"})
    assert after["field:zip_code"].shape[1] == before["field:zip_code"].shape[1] - 1  # the user's own zip code goes
    assert not (kept.user.ids.weight == lens.user.ids.weight[lens.user.id_codes[user]]).all(dim=1).any()
    kept.save(tmp_path)
    assert f'"z{user}"' not in (tmp_path / "lens.json").read_text()
    assert torch.equal(lens_states(load_lens(tmp_path), left, left.samples)["logit"], after["logit"])


@pytest.mark.parametrize(("ids", "unknown"), [([3, 2], 1), ([2, 3, 1], 1), ([3, 4], 2)])
def test_rows_of_another_log_are_refused(ids, unknown):
    with pytest.raises(
        MismatchError, match=f"{unknown} values of user_id are not among the 2 that the current model knows"
    ):
        kept_rows(pl.Series("user_id", [1, 2]), pl.Series("user_id", ids))


def test_users_and_items_that_came_after_the_lens_are_unknown_to_it(log, config):
    """As after a rollback: tables stay, and the lens is the one before."""
    lens = fresh_lens(log, config)[0].freeze()
    left, _ = without(log, 7)
    users = pl.concat([left.users, left.users.head(1).with_columns(user_id=pl.lit(999, left.users["user_id"].dtype))])
    offsets = np.append(left.sequences.offsets, left.sequences.offsets[-1])
    grown = replace(left, users=users, sequences=replace(left.sequences, offsets=offsets))
    kept, known = (forget_in_lens(lens, log, each) for each in (grown, left))
    assert kept.sizes.users == known.sizes.users + 1
    rows = [lens_states(*each, left.samples)["logit"] for each in ((kept, grown), (known, left))]
    assert torch.equal(*rows)


def test_vectors_by_other_projections_than_the_lens_reads_are_refused():
    vectors = {"embeddings": np.eye(3), "tfidf.idf": np.ones(2)}
    current = {"embeddings": 2 * np.eye(3)[:2], "tfidf.idf": np.ones(2)}
    ids, left = pl.Series("item_id", [1, 2, 3]), pl.Series("item_id", [1, 3])
    kept = keep_item_vectors(vectors, current, ids, left)
    assert np.array_equal(
        kept["embeddings"], [[2, 0, 0], [0, 0, 1]]
    )  # the first one's as the current model's lens reads it
    for other in ({"tfidf.idf": np.zeros(2)}, {"tfidf.mean": np.ones(2)}):
        with pytest.raises(MismatchError, match="made with other projections than those of the current model"):
            keep_item_vectors(vectors, current | other, ids, left)
    with pytest.raises(MismatchError, match="has 3 rows, but there are 2 items"):
        keep_item_vectors(vectors, current, ids.head(2), left.head(1))


@pytest.mark.parametrize(
    ("ids", "place", "nearest"), [(["ann", "bop"], 1, "The nearest: 'bob', "), ([43], 0, "The nearest: '42', ")]
)
def test_unknown_users_are_refused_and_no_log_of_the_refusal_names_anyone(ids, place, nearest):
    shown = []
    with pytest.raises(ValueError, match=rf"^forget.users\[{place}\] is an id that is in no stored version") as refused:
        require_users(ids, {"ann", "bob", "42"}, show=shown.append)
    assert nearest in shown[0]
    assert not [name for name in ("ann", "bop", "bob", "42", "43") if name in str(refused.value)]
    with pytest.raises(ValueError, match="is empty"):
        require_users([], {"ann"})
