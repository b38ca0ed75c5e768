"""What item models learn from, and how their settings are chosen."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from kedro_provenance.parameters import Block
from random_logs import embedded_logs, logs
from reclora_kedro.candidates.item_model import ItemModel, Step, Training, choose_settings
from reclora_kedro.history.taken_items import Rules, draw_positives


@given(logs())
def test_equal_items_come_by_their_likers_then_by_their_users_then_by_index(log):
    events = log.sequences
    user, training = Training.from_log(log).user, Training.from_log(log)
    pairs = list(zip(user.tolist(), events.item_index.tolist(), events.label.tolist(), strict=True))
    users = [len({user for user, other, _ in pairs if other == item}) for item in range(log.items.height)]
    likers = [
        len({user for user, other, label in pairs if other == item and label}) for item in range(log.items.height)
    ]
    expected = sorted(range(log.items.height), key=lambda item: (-likers[item], -users[item], item))
    assert training.order.items.tolist() == expected
    assert training.users.tolist() == users
    assert training.order.place[training.order.items].tolist() == list(range(log.items.height))


@given(embedded_logs(), st.sets(st.integers(0, 4), min_size=1), st.integers(0, 9))
def test_among_some_items_all_else_is_as_if_the_others_were_not_there(log, kept, seed):
    items = np.array(sorted(kept))
    known = np.random.default_rng(seed).random(len(log.sequences.item_index)) < 0.7
    likes = log.samples.select("user_index", "item_index", "history_end", "timestamp")
    among, of_items = Training(log, known).among(items, likes)
    assert among.log.items.equals(log.items[items])
    np.testing.assert_array_equal(among.log.item_embeddings, log.item_embeddings[items])
    is_kept = np.isin(log.sequences.item_index, items)
    for name in ("rating", "label", "timestamp"):
        np.testing.assert_array_equal(getattr(among.log.sequences, name), getattr(log.sequences, name)[is_kept])
    np.testing.assert_array_equal(items[among.log.sequences.item_index], log.sequences.item_index[is_kept])
    np.testing.assert_array_equal(among.is_training_event, known[is_kept])
    np.testing.assert_array_equal(among.user, Training(log, known).user[is_kept])

    def histories(training, likes, name):
        events = training.log.sequences
        return [
            (name(item), second, [name(event) for event in events.item_index[events.starts[user] : end]])
            for user, item, end, second in likes.iter_rows()
        ]

    before = histories(Training(log, known), likes.filter(pl.col("item_index").is_in(items)), int)
    expected = [(item, second, [event for event in events if event in kept]) for item, second, events in before]
    assert histories(among, of_items, lambda index: items[index]) == expected


class ToySettings(Block):
    one: int = 0
    other: int = 0


class Toy(ItemModel):
    """Random scores from -1 to 1 of each item at each moment, others for each of the settings."""

    Settings: ClassVar = ToySettings
    STEPS: ClassVar = [
        Step([{"one": one} for one in range(4)], most_items=3),
        Step([{}, *({"other": other} for other in range(1, 4))]),
    ]

    def __init__(self, training, settings):
        self.ids, self.settings = training.log.items["item_id"].to_list(), settings

    @classmethod
    def choices(cls, config, training):
        return cls.STEPS

    @classmethod
    def fit(cls, training, settings):
        return cls(training, settings)

    def scores(self, moments):
        return np.array([[self.score_of(*row, item) for item in self.ids] for row in moments.frame.iter_rows()])

    def score_of(self, user, _, second, item):
        key = [user, second, item, self.settings.one, self.settings.other]
        return np.random.default_rng(key).integers(-1, 2)


def ndcg_by_hand(training, settings, likes, repeat, items):
    """The sum of NDCG@10 of likes of some items, list by list."""
    log, place = training.log, training.order.place
    model, total = Toy(training, settings), 0.0
    for user, item, end, second in likes.iter_rows():
        if item not in items:
            continue
        taken = set() if repeat else set(log.sequences.item_index[log.sequences.starts[user] : end].tolist())

        def key(each, user=user, second=second):
            return -model.score_of(user, None, second, model.ids[each]), place[each]

        rank = sorted(items - taken, key=key).index(item) + 1
        total += 1 / np.log2(1 + rank)  # there are fewer than ten items
    return total


@given(logs(), st.booleans(), st.sets(st.integers(0, 4), max_size=2))
def test_the_settings_with_the_highest_ndcg_are_chosen_step_by_step(log, repeat, excluded):
    log = log_with_validation(log)
    training, rules = (
        Training.from_split(log),
        {"repeat": repeat, "excluded": np.array(sorted(excluded), dtype=np.int64)},
    )
    likes = draw_positives(log, "validation", None, 0, Rules(**rules))
    likes = likes.select("user_index", "item_index", "history_end", "timestamp")
    settings = ToySettings()
    for step in Toy.STEPS:
        items = [item for item in training.order.items.tolist() if item not in excluded][: step.most_items]
        tried = [settings.model_copy(update=change) for change in step.changes]
        sums = [round(ndcg_by_hand(training, each, likes, repeat, set(items)), 9) for each in tried]
        settings = tried[sums.index(max(sums))]
    assert choose_settings(Toy, training, None, likes, Rules(**rules)) == settings


def log_with_validation(log):
    """The log, of whose samples the later half validates."""
    is_later = pl.col("row") >= log.samples.height // 2
    split = pl.when(is_later).then(pl.lit("validation")).otherwise(pl.lit("train"))
    return replace(log, samples=log.samples.with_columns(split=split))
