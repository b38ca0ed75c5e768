"""A small language model learns to write what helps a black box, and its soft prompt is searched."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from live_service import block
from named import PARAMETERS, names_with
from reclora_extras.base_models.config import TuningConfig
from reclora_extras.black_box import knowledge as knowledge_of
from reclora_extras.black_box import nodes
from reclora_extras.black_box.chat_api import Answers
from reclora_extras.black_box.config import BlackBoxConfig
from reclora_extras.black_box.hints import MessageWriter
from reclora_extras.black_box.knowledge import (
    KNOWLEDGE,
    SoftPrompt,
    answer_with_knowledge,
    choose_lessons,
    question_ids,
    search_soft_prompt,
    teach,
    write_knowledge,
    writing_losses,
)
from reclora_extras.black_box.pipeline import create_pipeline
from reclora_kedro.llm.language_model import load_language_model
from reclora_kedro.llm.prompts import PromptConfig

PROMPT = PromptConfig.model_validate(block("finetuning", "prompt"))
TUNING = {"lora_rank": None, "epochs": 60, "learning_rate": 1e-2}
HINTS = {"true": "It is {{ verdict }}. {{ prompt }}", "false": "It is {{ 1 - verdict }}. {{ prompt }}"}


@pytest.fixture(autouse=True)
def _sizes(monkeypatch):
    """Sizes for the tiny LLM."""
    for name, value in {"MAX_TOKENS": 6, "SOFT_TOKENS": 2, "DIMENSIONS": 2}.items():
        monkeypatch.setattr(knowledge_of, name, value)


def config(**knowledge):
    settings = {"rows": 9, "tuning": TUNING, "tokens_per_batch": 400, "trials": 8, "calls": 1000}
    changes = {"hints": {"template": ["false", "true"]}, "search": {"rows": 9, "calls": 99}}
    return BlackBoxConfig.model_validate(PARAMETERS["black_box"] | changes | {"knowledge": settings | knowledge})


def record(row, use="few_shot"):
    label = row % 2
    asked = {"row": row, "use": use, "label": label, "user": {}, "history": [], "target": {"title": f"Film {row}"}}
    return asked | {"hint": {"verdict": label, "liked": [], "disliked": [], "statistics": {}}}


def answers(logits):
    usage = dict.fromkeys(("calls", "retries", "by_text", "unreadable", "requests", "prompt_tokens"), 0)
    return Answers(np.array(logits, dtype=float), usage | {"completion_tokens": 0})


def believes(texts, _):
    """An LLM that says Yes to "It is 1"."""
    return answers([3.0 if "It is 1" in text else -3.0 if "It is 0" in text else 0.0 for text in texts])


def test_lessons_are_the_hints_that_make_the_true_answer_likeliest():
    writer = MessageWriter("{{ target.title }}?", HINTS, PROMPT, 1000)
    rows = [record(row) for row in range(4)]
    lessons, account = choose_lessons(believes, rows, writer, config())
    assert lessons == [(f"Film {row}?", f"It is {row % 2}.") for row in range(4)]
    assert (account["rows"], account["lessons"]) == (4, 4)
    with pytest.raises(ValueError, match="None of the hints makes the true answer to any of 4 questions likelier"):
        choose_lessons(lambda texts, _: answers(np.zeros(len(texts))), rows, writer, config())


def test_what_is_written_is_learned_and_the_question_is_not(tiny_llm):
    token_ids, starts = [[5, 6, 7, 8], [9, 10, 11]], np.array([2, 1])
    losses = writing_losses(token_ids, starts)(tiny_llm, np.arange(2))
    for ids, start, loss in zip(token_ids, starts, losses, strict=True):
        likelihoods = tiny_llm.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        expected = -np.mean([likelihoods[place - 1, ids[place]].item() for place in range(start, len(ids))])
        assert loss.item() == pytest.approx(expected, rel=1e-4)


@pytest.fixture(scope="module")
def taught(tiny_llm_folder):
    """The tiny LLM once it has learned what to write of two films."""
    from few_rows import load_model

    lessons = [("Film 2?", "It is 0."), ("Film 3?", "It is 1.")]
    llm = load_model(tiny_llm_folder).llm
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TuningConfig, "batch_size", 2)
        return lessons, *teach(llm, lessons, TuningConfig.model_validate(TUNING), 400, seed=0)


def test_a_taught_model_writes_the_knowledge_of_each_question(taught):
    _, llm, account = taught
    assert account["last_loss"] < 0.5 < account["first_loss"]
    nothing = torch.empty(0, llm.model.config.hidden_size)
    written = write_knowledge(llm, nothing, ["Film 2?", "Film 3?", "Film 2?"], 12)
    assert [text[:7] for text in written] == ["It is 0", "It is 1", "It is 0"]
    soft = SoftPrompt.drawn(llm, 3, 2, seed=1).at([2.0, -1.0])
    embed = llm.model.get_input_embeddings()
    [ids] = question_ids(llm, ["Film 3?"])
    inputs, greedy = torch.cat([soft, embed(torch.tensor(ids))]), []
    for _ in range(5):  # one token after the other, without what generate remembers
        token = llm.model(inputs_embeds=inputs[None]).logits[0, -1].argmax()
        if token == llm.tokenizer.eos_token_id:
            break
        greedy.append(token.item())
        inputs = torch.cat([inputs, embed(token[None])])
    lines = llm.tokenizer.decode(greedy, skip_special_tokens=True).strip().splitlines()
    assert write_knowledge(llm, soft, ["Film 3?"], 5) == [lines[0].strip() if lines else ""]


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=2))
def test_a_soft_prompt_is_its_origin_and_a_sum_of_directions(z):
    origin, directions = torch.randn(3, 4), torch.randn(2, 3, 4)
    expected = origin + z[0] * directions[0] + z[1] * directions[1]
    torch.testing.assert_close(SoftPrompt(origin, directions).at(z), expected, atol=1e-5, rtol=1e-4)


def test_the_search_goes_where_the_black_box_answers_best_within_its_calls():
    rows, seen = [record(row, "validation") for row in range(20)], []

    def informed(z):
        seen.append(z)
        far = abs(z[0] - 1.5) + abs(z[1] + 1)  # knowledge is true of fewer rows the farther z is from there
        texts = [f"It is {row['label'] if row['row'] > 4 * far else 1 - row['label']}" for row in rows]
        return [row | {"hint": row["hint"] | {"knowledge": text}} for row, text in zip(rows, texts, strict=True)]

    writer = MessageWriter("{{ target.title }}?", KNOWLEDGE, PROMPT, 1000)
    trials = search_soft_prompt(believes, informed, writer, config(trials=12))
    assert seen[0] == [0, 0]
    assert [trial["z"] for trial in trials] == seen
    aucs = [trial["auc"] for trial in trials]
    assert max(aucs[5:]) > max(aucs[:5])  # a Gaussian process does better than chance
    again = search_soft_prompt(believes, informed, writer, config(trials=2))
    assert again == trials[:2]
    assert len(search_soft_prompt(believes, informed, writer, config(calls=20))) == 1
    with pytest.raises(ValueError, match=r"knowledge\.calls is 19, less than one trial takes"):
        search_soft_prompt(believes, informed, writer, config(calls=19))


def test_the_small_model_is_in_the_pipeline_where_it_is_set():
    plain, with_knowledge = (
        create_pipeline(names_with({"black_box": PARAMETERS["black_box"] | {"knowledge": knowledge}}))
        for knowledge in (None, {"rows": 9})
    )
    added = {node.name: node for node in with_knowledge.nodes if node.name not in {each.name for each in plain.nodes}}
    assert {*added} == {"black_box.teach_writer", "black_box.answer_with_knowledge"}
    assert with_knowledge.inputs() - plain.inputs() == {"prepared_llm"}
    [evaluated] = [node for node in with_knowledge.nodes if node.name == "black_box.evaluate"]
    assert evaluated.inputs[-2:] == ["black_box_scores", "knowledge_scores"]


def test_test_rows_are_answered_with_what_is_written_and_the_control_gives_that_of_another_row(taught):
    _, llm, _ = taught
    rows = [record(row, use) for use in ("validation", "test") for row in range(4)]
    writer = MessageWriter("{{ target.title }}?", KNOWLEDGE, PROMPT, 1000)
    trials, scores, usage = answer_with_knowledge(believes, rows, writer, llm, config(trials=2))
    assert len(trials) == 2
    names = ["black_box_with_knowledge", "black_box_shuffled_knowledge"]
    assert [each["model"] for each in usage] == names
    own, shuffled = ([text.split("\n\n") for text in scores.filter(model=name)["message"]] for name in names)
    assert (
        [question for _, question in own] == [question for _, question in shuffled] == [f"Film {n}?" for n in range(4)]
    )
    assert sorted(text for text, _ in own) == sorted(text for text, _ in shuffled)
    labels = [row["label"] for row in rows[:4]]
    expected = roc_auc_score(labels, believes(["\n\n".join(each) for each in own], "").logits)
    assert roc_auc_score(labels, scores.filter(model=names[0])["score"]) == expected


def test_stored_models_are_taught_and_write(tiny_llm_folder):
    api = SimpleNamespace(ask=lambda texts, step, config, kept: believes(texts, step))
    rows = [record(row, use) for use in ("few_shot", "validation", "test") for row in range(4)]
    templates = {name: partial(str, text) for name, text in HINTS.items()}
    settings = config(rows=4, trials=1, tuning=TUNING | {"epochs": 1})
    folder = str(tiny_llm_folder)
    asked = (api, None, rows, "{{ target.title }}?")
    taught, [account] = nodes.teach_writer(*asked, templates, settings, PROMPT, folder)
    assert account["lessons"] == 4
    assert any(
        not torch.equal(before, after)
        for before, after in zip(load_language_model(folder).model.parameters(), taught.model.parameters(), strict=True)
    )
    _, scores, _ = nodes.answer_with_knowledge(*asked, settings, PROMPT, folder)
    assert scores.height == 8
