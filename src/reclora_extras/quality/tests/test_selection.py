"""Few-shot rows of a log whose users like the items of their own parity, chosen by their texts."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from parity_log import log
from reclora_extras.base_models import corpus
from reclora_extras.base_models.corpus import choose_by_quality, tell_histories, tell_samples
from reclora_extras.quality.selection import choose_few_shot, draw_pool
from reclora_kedro.history.questions import PromptRowsConfig
from steps_of_base_model import TOKENS, config

__all__ = ["log"]  # the fixture
ANSWERS = SimpleNamespace(positive_answer="Yes", negative_answer="No")


def test_few_shot_rows_are_drawn_from_those_of_the_pool_that_are_good_enough(log, tiny_llm, monkeypatch):
    pool, size = draw_pool(log.samples, PromptRowsConfig(unit="rows", few_shot=6, validation=None, test=None), 4, 0)
    assert (pool.height, size) == (24, 6)
    told = tell_samples(log, pool, 2, ANSWERS)
    target = f"Item {pool['item_index'][5]}: {'Yes' if pool['label'][5] else 'No'}"
    before = np.arange(pool["history_end"][5] - 2, pool["history_end"][5])
    assert told[5].splitlines() == [*tell_histories(log, before, 1, ANSWERS), target]
    monkeypatch.setattr(corpus, "DROPPED", 0.5)
    monkeypatch.setattr(corpus, "MAX_SIMILARITY", 0.99)
    half = config()
    chosen = choose_few_shot(tiny_llm, log, pool, size, half, ANSWERS)
    good, _ = choose_by_quality(tiny_llm, tell_samples(log, pool, 10, ANSWERS), 256, TOKENS)
    assert (chosen.height, chosen["use"].unique().to_list()) == (6, ["few_shot"])
    assert chosen["row"].is_sorted()
    assert set(chosen["row"]) <= set(pool["row"].gather(good))
    with pytest.raises(
        ValueError, match=r"asks for 20 rows, .* only 12 are good enough \(drawn 24, .*: lower history\."
    ):
        choose_few_shot(tiny_llm, log, pool, 20, half, ANSWERS)
    with pytest.raises(ValueError, match=r"has unit likes and few_shot null: set unit to rows"):
        draw_pool(log.samples, PromptRowsConfig(unit="likes", few_shot=None, validation=None, test=None), 4, 0)


def test_every_row_that_is_good_enough_is_as_likely_as_any_other(log, monkeypatch):
    pool, _ = draw_pool(log.samples, PromptRowsConfig(unit="rows", few_shot=4, validation=None, test=None), 3, 0)
    good = np.array([9, 2, 5, 7, 0, 11, 3, 8])  # in an order of their own, such as by perplexity
    monkeypatch.setattr(corpus, "tell_samples", lambda *_: [])
    monkeypatch.setattr(corpus, "choose_by_quality", lambda *_: (good, {}))
    drawn = [choose_few_shot(None, log, pool, 4, config(seed=seed), ANSWERS)["row"] for seed in range(1000)]
    counts = pl.concat(drawn).value_counts().sort("row")
    assert counts["row"].to_list() == pool["row"].gather(np.sort(good)).to_list()
    assert counts["count"].is_between(420, 580).all()  # 500 each, with a standard deviation of 16
