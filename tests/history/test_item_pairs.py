"""Pairs of texts: by plain loops, and free of what came later."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import polars as pl
import pytest

from random_logs import ITEMS, USERS
from reclora_kedro.history.fields import describe_items
from reclora_kedro.history.item_pairs import text_pairs
from reclora_kedro.history.splits import SplitConfig
from reference_log import reference_log

WINDOW = 2
ITEMS = ITEMS.with_columns(title=pl.Series(["A", "B", "A", "", "E"]))  # two of one title, one without


@pytest.fixture(params=[("global_time", 0), ("global_time", 1), ("per_user_last_out", 0), ("per_user_last_out", 1)])
def log(request):
    kind, seed = request.param
    random = np.random.default_rng(seed)
    interactions = pl.DataFrame(
        {
            "user_id": random.choice(USERS["user_id"], 60),
            "item_id": random.choice(ITEMS["item_id"], 60),
            "timestamp": random.integers(1, 40, 60),
            "rating": random.choice([2.0, 5.0], 60, p=[0.3, 0.7]),
        }
    )
    interactions = interactions.unique(["user_id", "item_id", "timestamp"], keep="first", maintain_order=True)
    interactions = interactions.with_columns(label=pl.col("rating").ge(3.5).cast(pl.Int8))
    return reference_log(interactions, ITEMS, USERS, 3, split=SplitConfig(kind=kind, train=0.5, validation=0.25))


def pairs_of(log):
    """Both kinds of pairs as sorted lists of texts."""
    pairs = text_pairs(log, WINDOW)
    texts = np.array(pairs.texts)
    return {
        "train": sorted(map(tuple, texts[pairs.training])),
        "validation": sorted(map(tuple, texts[pairs.validation])),
    }


def pairs_by_loops(log):
    train_end = log.samples_in("train")["timestamp"].max()
    texts, sequences = describe_items(log.items), log.sequences
    pairs = {"train": [], "validation": []}
    for user in range(log.users.height):
        own = log.samples.filter(user_index=user)
        later = own.filter(pl.col("split").is_in(["validation", "test"]))["history_end"].min()
        validates, likes = set(own.filter(split="validation")["event"]), []
        for event in range(*sequences.offsets[user : user + 2]):
            trains = sequences.timestamp[event] <= train_end
            split = (
                "train" if trains and (later is None or event < later) else "validation" if event in validates else None
            )
            text = texts[sequences.item_index[event]]
            if split and text and sequences.label[event]:
                likes.append((split, text))
        for (first, (split, text)), (second, (later_split, other)) in combinations(enumerate(likes), 2):
            if second - first <= WINDOW and text != other and split == "train":
                pairs[later_split].append((text, other))
    return {name: sorted(of) for name, of in pairs.items()}


def test_are_likes_near_one_another_of_the_split(log):
    pairs = pairs_by_loops(log)
    assert all(pairs.values())
    assert pairs_of(log) == pairs


@pytest.mark.parametrize(
    ("changed", "unchanged"), [(["test"], ["train", "validation"]), (["validation", "test"], ["train"])]
)
def test_no_later_event_changes_a_pair(log, changed, unchanged):
    events = log.samples.filter(pl.col("split").is_in(changed))["event"].to_numpy()
    item = log.sequences.item_index.copy()
    item[events] = (item[events] + 1) % log.items.height
    later = replace(log, sequences=replace(log.sequences, item_index=item))
    assert [pairs_of(log)[name] for name in unchanged] == [pairs_of(later)[name] for name in unchanged]


@pytest.mark.parametrize(
    ("items", "of_user"),
    [(1, [[0] * 8] * 4), (9, [[item] for item in range(9)] * 2)],
    ids=["a catalogue of one item", "users with one event"],
)
def test_a_log_without_pairs_is_refused(items, of_user):
    rows = [(user, item, place) for user, own in enumerate(of_user) for place, item in enumerate(own)]
    interactions = pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row").with_columns(
        timestamp=pl.int_range(pl.len()), rating=5.0, label=pl.lit(1, pl.Int8)
    )
    tables = pl.DataFrame({"item_id": range(items), "title": list("ABCDEFGHI")[:items]}), interactions.select("user_id")
    log = reference_log(
        interactions, tables[0], tables[1].unique().sort("user_id"), 0,
        split=SplitConfig(kind="global_time", train=0.5, validation=0.25),
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"The training split holds no pair of items .* Change `history\.split`"):
        text_pairs(log, WINDOW)
