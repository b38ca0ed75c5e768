"""What comes after the training split changes nothing that a lens is trained on, to the last bit."""

import numpy as np
import polars as pl
import pytest

from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.log_builder import build_log
from reclora_kedro.lens.training import fit_lens

TRAINING, LATER = 120, 60
ITEMS = pl.DataFrame({"item_id": range(9), "title": "A", "genres": ["Drama", "Drama, War", None] * 3})
USERS = pl.DataFrame({"user_id": range(4), "age": ["20", None, "30", "40"]})


def events(random: np.random.Generator, count: int, first_second: int, ratings: list[float]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_id": random.integers(USERS.height, size=count),
            "item_id": random.integers(ITEMS.height, size=count),
            "timestamp": np.arange(count) + first_second,
            "rating": random.choice(ratings, count),
            "label": np.arange(count, dtype=np.int8) % 2,
        },
        schema_overrides={"label": pl.Int8},
    )


def log_of(interactions: pl.DataFrame, levels: object) -> InteractionLog:
    """The log, in which the first `TRAINING` events, and no other, are of the training split."""
    config = HistoryConfig(
        seed=0,
        min_history=1,
        shared_clock=True,
        ties="strict",
        rating_levels=levels,
        split={"kind": "global_time", "train": (TRAINING - 3.5) / (interactions.height - 4), "validation": 0.1},
        negatives={"kind": "none", "per_positive": 1},
        item_embedding={"encoders": ["tfidf"], "max_tokens": 8, "tokens_per_batch": 64, "components": 2},
        short={},
        prompt_rows={"unit": "rows", "few_shot": None, "validation": None, "test": None},
    )
    log = build_log(interactions, ITEMS, USERS, config)
    assert log.samples.filter(pl.col("split") == "train")["timestamp"].max() == TRAINING
    return log.with_embeddings(np.random.default_rng(0).normal(size=(ITEMS.height, 4)))


LATER_EVENTS = {
    "other ratings": lambda later: later.with_columns(rating=pl.col("rating") * 7.3 - 20),
    "other events": lambda later: later.with_columns(pl.col("item_id").reverse(), pl.col("user_id").shuffle(1)),
    "more events": lambda later: pl.concat([later, later.with_columns(pl.col("timestamp") + LATER, rating=2.5)]),
    "fewer events": lambda later: later[: LATER // 2],
}


@pytest.mark.parametrize("change", LATER_EVENTS)
@pytest.mark.parametrize("levels", [None, 4])
def test_later_events_change_no_weight_of_the_lens(config, levels, change):
    random = np.random.default_rng(0)
    earlier, later = events(random, TRAINING, 1, [1.1, 2.0, 4.7]), events(random, LATER, TRAINING + 1, [1.1, 2.0, 4.7])
    config = config.model_copy(update={"max_epochs": 1})
    logs = [log_of(pl.concat([earlier, part]), levels) for part in (later, LATER_EVENTS[change](later))]
    first, second = (fit_lens(log, config)[0].state_dict() for log in logs)
    assert list(first) == list(second)
    assert not [name for name in first if first[name].numpy().tobytes() != second[name].numpy().tobytes()]
    levels_of_training = [log.sequences.rating_level[log.sequences.timestamp <= TRAINING].tolist() for log in logs]
    assert levels_of_training[0] == levels_of_training[1]
