"""Distilling of tiny random LLMs."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from few_rows import random_prompts, with_adapter
from reclora_extras.base_models.distilling import (
    answers_of_blocks,
    block_states,
    distill,
    distilling_losses,
    require_layers,
    teacher_states,
)
from reclora_extras.base_models.pruning import with_layers
from reclora_extras.base_models.tuning import answering
from reclora_kedro.llm.answer_model import AnswerModel
from steps_of_base_model import ANSWERS, TOKENS, config, random_llm, some_prompts, tuning

CONFIG = config().distill
CPU = torch.device("cpu")


def test_the_loss_is_that_of_the_paper_term_by_term():
    random = np.random.default_rng(0)
    states, taught, logits = random.normal(size=(3, 4, 5)), random.normal(size=(3, 4, 5)), random.normal(size=(3, 4))
    expected = []
    for row, label in enumerate([1, 0, 1]):
        wrong = [math.log1p(math.exp(-logit if label else logit)) for logit in logits[row]]
        pairs = list(zip(states[row], taught[row], strict=True))
        angles = [1 - a @ b / math.sqrt((a @ a) * (b @ b)) for a, b in pairs]
        distances = [(a - b) @ (a - b) / (b @ b) for a, b in pairs]
        expected.append(wrong[3] + 1.0 * sum(angles) / 4 + 0.1 * sum(distances) / 4 + 0.1 * sum(wrong[:3]) / 3)
    labels = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    losses = distilling_losses(*map(torch.from_numpy, (states, taught, logits)), labels)
    np.testing.assert_allclose(losses, expected, rtol=1e-12)


def test_a_student_of_all_layers_has_its_teachers_states_and_answers(tiny_llm):
    llm, prompts = random_llm(tiny_llm), some_prompts()
    teacher = AnswerModel(llm, ANSWERS)
    student = with_layers(llm, range(6))
    batch = prompts.batch(range(12), CPU)
    with torch.inference_mode():
        states = block_states(student, batch, 3)
        torch.testing.assert_close(states.float(), teacher_states(teacher, prompts, 3, TOKENS), rtol=1e-6, atol=1e-6)
        answers = answers_of_blocks(student, states, ANSWERS)
        torch.testing.assert_close(answers[:, -1], teacher.llm_logits(batch))
        hidden = llm.model(input_ids=batch.token_ids, output_hidden_states=True).hidden_states
        torch.testing.assert_close(states[:, 1], hidden[4][torch.arange(12), batch.last])


def test_the_first_layers_learn_from_a_teacher_whose_gates_read(tiny_model):
    prompts = random_prompts(16)
    llm = tiny_model.llm
    student = with_layers(llm, range(1))
    before = {name: weight.clone() for name, weight in student.model.state_dict().items()}
    teacher = with_adapter(tiny_model)
    settings = CONFIG.model_copy(update={"layers": 1, "tuning": tuning(epochs=6)})
    taught, account = distill(student, teacher, prompts, settings, TOKENS, seed=0)
    assert account["steps"] == 24
    assert account["last_loss"] < account["first_loss"] - 0.2
    assert all(weight.equal(before[name]) for name, weight in student.model.state_dict().items())
    assert len(taught.model.model.layers) == 1
    other = replace(prompts, gate_inputs=prompts.gate_inputs.take([*range(1, 16), 0]))
    states = teacher_states(teacher, prompts, 1, TOKENS)
    assert not torch.allclose(states, teacher_states(teacher, other, 1, TOKENS), atol=1e-3)


def test_no_answer_is_measured_with_what_others_left_remembered(tiny_model):
    prompts, calls = random_prompts(12), []
    adapted = with_adapter(tiny_model, last_layers=1)
    logits = adapted.all_llm_logits(prompts, TOKENS, "")  # of which the layer below is remembered
    adapted.model.get_decoder().layers[0].register_forward_hook(lambda *_: calls.append(1))
    assert np.array_equal(adapted.all_llm_logits(prompts, TOKENS, ""), logits)
    assert not calls
    again, _ = answering(adapted, prompts, TOKENS)
    assert roc_auc_score(prompts.labels, again) == roc_auc_score(prompts.labels, logits)
    assert calls


def test_a_student_of_too_many_layers_is_refused():
    with pytest.raises(ValueError, match=r"layers is 9, but a student has at most the 2 layers of the base LLM"):
        require_layers(2, CONFIG.model_copy(update={"layers": 9}))
