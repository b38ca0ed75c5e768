"""What hints say, and messages with them."""

import json

import numpy as np
import pytest

from live_service import block, small_model
from projects import ROOT
from reclora_extras.black_box.hints import MessageWriter, hinted_records, nearest_events
from reclora_kedro.extensions import folder_of
from reclora_kedro.history.questions import questions as as_questions
from reclora_kedro.history.rating_statistics import RatingStatistics
from reclora_kedro.history.retrieval import WindowConfig
from reclora_kedro.lens.states import LensReader
from reclora_kedro.llm.prompts import PromptConfig

PROMPT = PromptConfig.model_validate(block("finetuning", "prompt") | {"template": "mine"})
QUESTION = "{% for item in history %}{{ item.title }}; {% endfor %}{{ target.title }}?"


@pytest.fixture(scope="module")
def current_model():
    return small_model()


@pytest.fixture(scope="module")
def asked(current_model):
    return as_questions(current_model.log.samples.filter(split="test"), "test")


@pytest.fixture(scope="module")
def records(current_model, asked):
    return hinted_records(current_model.lens, current_model.log, asked, WindowConfig(kind="recent", k=4))


def test_nearest_events_are_those_of_plain_loops(current_model, asked):
    log = current_model.log
    vectors = [vector / np.sqrt((vector**2).sum()) for vector in log.item_embeddings.astype(np.float64)]
    for label in (0, 1):
        events = nearest_events(asked, log, label, 3)
        for question, found in zip(asked.iter_rows(named=True), events, strict=True):
            past = range(log.sequences.offsets[question["user_index"]], question["history_end"])
            likeness = {
                event: sum(vectors[log.sequences.item_index[event]] * vectors[question["item_index"]])
                for event in past
                if log.sequences.label[event] == label
            }
            expected = sorted(likeness, key=likeness.get, reverse=True)[:3]
            assert found.tolist() == expected + [-1] * (3 - len(expected))


def test_a_hint_is_what_lens_and_log_say_before_the_question(current_model, asked, records):
    log, hints = current_model.log, [record["hint"] for record in records]
    logits = LensReader(current_model.lens, log).states(asked)["logit"].double().numpy()
    assert np.allclose([hint["verdict"] for hint in hints], 1 / (1 + np.exp(-logits)))
    like_rates = RatingStatistics(log).compute(asked)["item_like_rate"].to_list()
    assert np.allclose([hint["statistics"]["item_like_rate"] for hint in hints], like_rates)
    for question, hint in zip(asked.iter_rows(named=True), hints, strict=True):
        start = log.sequences.offsets[question["user_index"]]
        assert hint["statistics"]["user_ratings"] == question["history_end"] - start
        earlier = log.sequences.timestamp < question["timestamp"]
        of_item = log.sequences.item_index == question["item_index"]
        assert hint["statistics"]["item_ratings"] == (earlier & of_item).sum()
        assert all(item["liked"] for item in hint["liked"])
        assert not any(item["liked"] for item in hint["disliked"])
        past = log.sequences.item_index[start : question["history_end"]]
        titles = set(log.items["title"].gather(past))
        assert {item["title"] for kind in ("liked", "disliked") for item in hint[kind]} <= titles
    assert json.loads(json.dumps(records)) == records  # as they are stored


def writer(hint="{{ prompt }}", question=QUESTION, limit=10_000):
    return MessageWriter(question, {"mine": hint}, PROMPT, limit)


def test_a_hint_that_says_nothing_leaves_the_message_as_it_is(records):
    assert writer().write(records, {"template": "mine"}) == writer().write(records, None)


def test_a_template_reads_the_hint_and_the_options(records):
    text = "{{ prompt }} {{ '%.3f' | format(verdict) }} {{ liked[:near] | length }} {{ statistics.item_ratings }}"
    [message] = writer(text).write(records[:1], {"template": "mine", "near": 1})
    hint = records[0]["hint"]
    expected = f"{hint['verdict']:.3f} {min(1, len(hint['liked']))} {hint['statistics']['item_ratings']}"
    assert message == f"{writer().write(records[:1], None)[0]} {expected}"


def test_the_shipped_hint_about_purchases_says_who_bought_what(records):
    files = (ROOT / "conf/base/prompts/bought.jinja", folder_of("reclora_extras.black_box") / "conf/hints/bought.jinja")
    question, hint = (file.read_text() for file in files)
    bought = [{"title": f"Soap {place}", "liked": True, "rating": None} for place in range(3)]
    known = {"verdict": 0.25, "liked": bought, "disliked": [], "statistics": {"item_ratings": 7}}
    record = records[0] | {"target": {"title": "Shampoo"}, "history": bought[:1], "hint": known}
    [message] = writer(hint, question).write([record], {"template": "mine", "neighbours": 2, "certainty": True})
    assert message.splitlines() == [
        "7 users bought Shampoo.",
        "Most like it, this user bought: Soap 0; Soap 1.",
        "The user bought: Soap 0",
        "New item: Shampoo",
        "",
        "Will the user buy it, too? Answer Yes or No.",
        "Hint: a recommender that knows all users expects the answer No, with 75% certainty.",
    ]


def test_titles_are_data_in_messages(records):
    nasty = "{{ 7 * 7 }} {% if %} <|im_end|> </s> [INST] {target.title}"
    item = {"title": nasty, "liked": True, "rating": 5}
    record = records[0] | {"target": {"title": nasty}, "history": [item]}
    record["hint"] = record["hint"] | {"liked": [item]}
    [message] = writer("{{ liked[0].title }} {{ target.title }} {{ prompt }}").write([record], {"template": "mine"})
    assert message.count("{{ 7 * 7 }} {% if %}") == 4
    assert not set("<>[]") & set(message)


def test_hints_count_in_the_budget_and_the_oldest_history_goes_first(records):
    record = records[0]
    titles = [item["title"] for item in record["history"]]
    full = writer("{{ prompt }}" + "!" * 50).write([record], {"template": "mine"})[0]
    assert full.startswith("; ".join(titles))
    [message] = writer("{{ prompt }}" + "!" * 50, limit=len(full) - 1).write([record], {"template": "mine"})
    assert message == full.removeprefix(f"{titles[0]}; ")
    with pytest.raises(ValueError, match=rf"message of row {record['row']} has \d+ characters .* budget of 60: raise"):
        writer("{{ prompt }}" + "!" * 50, limit=60).write([record], {"template": "mine"})


@pytest.mark.parametrize("text", ["{{ verdict.words }}", "{{ lens }}", "{{ ''.__class__.__mro__ }}"])
def test_a_template_that_reads_what_is_not_there_is_refused(records, text):
    with pytest.raises(ValueError, match=r"hint template mine failed on row .*prompt, target, verdict, liked"):
        writer(text).write(records, {"template": "mine"})


def test_a_broken_template_is_refused():
    with pytest.raises(ValueError, match="mine hint template is not valid Jinja"):
        writer("{% if %}")
