"""The corpus of a log whose users like the items of their own parity."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from reclora_extras.base_models import corpus as corpus_of
from reclora_extras.base_models.config import CorpusConfig, StageConfig
from reclora_extras.base_models.corpus import (
    GENERAL_TEXTS,
    Corpus,
    choose_by_quality,
    clean,
    perplexities,
    require_sources,
    tell_corpus,
    tell_histories,
)
from reclora_extras.base_models.pipeline import checks
from reclora_extras.base_models.steps import Material, pretrain
from reclora_extras.base_models.steps.pretrain import Pretrain, told_prompts
from reclora_extras.base_models.tuning import losses_of_texts
from reclora_kedro.history.sequences import user_of_events
from reclora_kedro.llm.prompts import PromptFormat
from steps_of_base_model import TOKENS, config, some_prompts, tuning

ANSWERS = SimpleNamespace(positive_answer="Yes", negative_answer="No")


def with_rules(monkeypatch, **rules):
    for name, value in rules.items():
        monkeypatch.setattr(corpus_of, name, value)


def test_the_corpus_tells_training_events_alone_and_none_of_an_item_that_is_held_out(log):
    corpus = tell_corpus(log, config().corpus, ANSWERS, seed=0)
    events = np.flatnonzero(log.training_events())
    assert 0 < len(events) < len(log.sequences.item_index)
    held_out = {text.partition(".")[0] for text in corpus.held_out}
    told = [line for text in corpus.texts if ". genres: " not in text for line in text.splitlines()]
    users, items = user_of_events(log.sequences.offsets)[events], log.sequences.item_index[events]
    expected = [
        f"Item {item}: {'Yes' if user % 2 == item % 2 else 'No'}"
        for user, item in zip(users, items, strict=True)
        if f"Item {item}" not in held_out
    ]
    assert told == expected
    described = {text.partition(".")[0] for text in corpus.texts if ". genres: " in text}
    assert len(held_out) == round(0.3 * len(np.unique(items)))
    assert described | held_out == {f"Item {item}" for item in items}
    assert not described & held_out
    assert max(text.count("\n") for text in corpus.texts) == CorpusConfig.events_per_text - 1
    with pytest.raises(
        ValueError, match=r"held_out_items is 0\.001 of \d+ items with training events, which holds out 0"
    ):
        tell_corpus(log, config().corpus.model_copy(update={"held_out_items": 0.001}), ANSWERS, seed=0)


def test_texts_that_a_stored_log_cannot_give_are_refused_before_the_run(log):
    corpus = config().corpus.model_copy(update={"held_out_items": 0.99})
    stored = {"log_without_embeddings": log, "params:base_model": SimpleNamespace(corpus=corpus), "further_texts": {}}
    check, _ = checks(SimpleNamespace(inputs=stored.keys), SimpleNamespace(load=stored.__getitem__))
    with pytest.raises(ValueError, match=r"held_out_items is 0\.99 of 40 items"):
        check()


def test_each_history_is_in_the_order_of_time_and_of_one_user(log):
    events = np.arange(25)
    histories = tell_histories(log, events, 10, ANSWERS)
    assert [text.count("\n") + 1 for text in histories] == [10, 10, 5]
    titles = [line.partition(":")[0] for text in histories for line in text.splitlines()]
    assert titles == [f"Item {item}" for item in log.sequences.item_index[:25]]
    titled = replace(log, items=log.items.with_columns(title=pl.format("{} (1995)", "title")))
    assert tell_histories(titled, events, 10, ANSWERS) == histories


def test_each_stage_leaves_what_is_good_enough_the_least_perplexing_first(tiny_llm, monkeypatch):
    words = ["one film about the sea and a boat", "another film about two cities and a train"]
    texts = [*words, f"{words[0]} ", "", "so", "no no no no no no", f"{words[1]} ride", "Heat of the night shift"]
    with_rules(monkeypatch, DROPPED=0, MIN_WORDS=2, MAX_REPETITION=0.5, MAX_SIMILARITY=0.6)
    places, counts = choose_by_quality(tiny_llm, texts, 40, TOKENS)
    assert counts == {"drawn": 8, "cleaned": 6, "not_perplexing": 6, "by_rules": 4, "without_near_duplicates": 3}
    perplexing = losses_of_texts(tiny_llm, [ids[:40] for ids in tiny_llm.tokenizer(texts)["input_ids"]], TOKENS)
    kept = {0, 7, 1 if perplexing[1] < perplexing[6] else 6}
    assert places.tolist() == sorted(kept, key=perplexing.__getitem__)
    with_rules(monkeypatch, DROPPED=0.5, MIN_WORDS=1, MAX_REPETITION=0.99)
    least, counts = choose_by_quality(tiny_llm, texts, 40, TOKENS)
    assert counts["not_perplexing"] == 3
    assert set(least) <= set(np.argsort(np.where([not text for text in texts], np.inf, perplexing))[:3].tolist())


def test_each_stage_has_its_mixture_and_no_stage_reads_of_a_held_out_item(log, tiny_llm, monkeypatch):
    read, stages = [], [{"tokens": 200, "shares": {"items": 1, "other": 1}}, {"tokens": 60, "shares": {"prompts": 1}}]
    corpus = config().corpus.model_copy(
        update={"selection": "uniform", "general": "general", "stages": tuple(StageConfig(**each) for each in stages)}
    )
    plain = tell_corpus(log, config().corpus, ANSWERS, seed=0)
    other = "\n\n".join([f"a boat like {name}" for name in plain.names] + [f"boat {place}" for place in range(40)])
    general = "\n\n".join(f"a sea {place}" for place in range(GENERAL_TEXTS + 5))
    told = tell_corpus(log, corpus, ANSWERS, 0, {"other": other, "general": general})
    assert told.sources["other"] == [f"boat {place}" for place in range(40)]
    assert len(told.general) == GENERAL_TEXTS
    assert not {*told.general} & {*told.sources["general"]}
    read_texts = pretrain.read
    monkeypatch.setattr(pretrain, "read", lambda llm, ids, config: read.append(ids) or read_texts(llm, ids, config))
    prompts = some_prompts()
    material = Material(told, prompts, prompts, PromptFormat(start=[], before="", after="", positive=40, negative=41))
    settings = config(corpus=corpus, pretrain=tuning(learning_rate=1e-3))
    llm, account = Pretrain.take(tiny_llm, material, settings)
    lengths = [sum(map(len, ids)) for ids in read]
    assert [stage["tokens"] for stage in account["stages"]] == lengths
    assert lengths == [pytest.approx(200, rel=0.2), pytest.approx(60, rel=0.4)]
    first, second = (tiny_llm.tokenizer.batch_decode(ids) for ids in read)
    of_other = sum(len(ids) for ids, text in zip(read[0], first, strict=True) if text.startswith("boat"))
    assert of_other == pytest.approx(100, rel=0.2)
    answered = told_prompts(tiny_llm, material)
    assert {*second} <= {clean(text) for text in answered}
    last = account["stages"][-1]
    expected = perplexities(llm, told, corpus.max_tokens, TOKENS)
    assert {name: last[name] for name in expected} == pytest.approx(expected)
    assert expected.keys() == {"perplexity", "general_perplexity"}
    emptied = replace(material, corpus=replace(told, sources=told.sources | {"other": []}))
    with pytest.raises(ValueError, match=r"stages names other, but each of its texts names a held-out item"):
        Pretrain.take(tiny_llm, emptied, settings)


def test_a_stage_of_texts_that_are_not_there_is_refused():
    corpus = config().corpus.model_copy(update={"stages": (StageConfig(tokens=9, shares={"items": 1, "sea": 1}),)})
    with pytest.raises(
        ValueError, match=r"corpus\.stages names sea, but the catalog entry further_texts has boat: add"
    ):
        require_sources(corpus, ["boat"])
    require_sources(corpus, ["sea"])
    with pytest.raises(ValueError, match=r"corpus\.general names items, but the catalog entry further_texts has sea"):
        require_sources(corpus.model_copy(update={"general": "items"}), ["sea"])


def test_without_a_text_that_is_good_enough_nothing_is_pretrained(tiny_llm, monkeypatch):
    with_rules(monkeypatch, MIN_WORDS=99)
    material = Material(
        Corpus({"items": ["a film"], "histories": ["a boat"]}, []), some_prompts(), some_prompts(), None
    )
    with pytest.raises(
        ValueError, match=r"No text to pretrain on is good enough, .*'by_rules': 0.*: set base_model\.corpus\.selection"
    ):
        Pretrain.take(tiny_llm, material, config())
