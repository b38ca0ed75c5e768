"""A tiny fine-tuning: its settings, and prompts of which only the gates can know the answer."""

from dataclasses import replace

import numpy as np
import torch

from random_llama import with_random_adapter
from reclora_kedro.adapters.methods import new_adapter
from reclora_kedro.adapters.reclora.settings import RecLoraSettings
from reclora_kedro.finetuning.config import TrainingConfig
from reclora_kedro.finetuning.objectives.click import Clicks
from reclora_kedro.finetuning.training import train_adapter
from reclora_kedro.gate_inputs import GateInputs
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.language_model import load_language_model
from reclora_kedro.llm.prompt_set import PromptSet
from reclora_kedro.llm.prompts import PromptFormat

GATE_DIM = 5
PROMPT_FORMAT = PromptFormat(start=[], before="", after="", positive=40, negative=41)


def adapter_config(**settings):
    return RecLoraSettings(**{"num_meta_loras": 4, "r": 4, "lora_alpha": 8, "gate_hidden_dim": 8, **settings})


def training_config(**settings):
    return TrainingConfig(
        **{
            "epochs": 8,
            "batch_size": 16,
            "learning_rate": 2e-2,
            "rows_per_validation": 128,
            "rows_per_checkpoint": 32,
            "tokens_per_batch": 400,
            "gradient_checkpointing": False,
            "processes": 1,
            "objective": {},
            "seed": 3,
            **settings,
        }
    )


def gates_decide(count=128, gate_dim=6, seed=0):
    """Prompts that say nothing; only what the gates read tells the label."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(count, gate_dim)).astype(np.float32)
    token_ids = [generator.integers(3, 300, generator.integers(4, 20)).tolist() for _ in range(count)]
    labels = (values[:, 0] > 0).astype(np.int8)
    return PromptSet(np.arange(count), token_ids, labels, gate_inputs_of(torch.from_numpy(values)))


def gate_inputs_of(values, name="target", lens_logits=None):
    """Gate inputs of rows from 0, by default with lens logits of 0."""
    lens_logits = torch.zeros(len(values)) if lens_logits is None else lens_logits
    return GateInputs(torch.arange(len(values)), name, values, lens_logits)


def load_model(folder):
    """The tiny LLM in a folder, in float32 on the CPU."""
    return AnswerModel(load_language_model(str(folder), dtype="float32", device="cpu"), PROMPT_FORMAT)


def with_model(answering, model):
    """The answering model with another PEFT model around its base LLM."""
    return replace(answering, llm=answering.llm.with_model(model))


def with_new_adapter(model, few_shot, seed=3, **settings):
    """The model with a fresh adapter for these prompts."""
    return with_model(model, new_adapter(model.model, adapter_config(**settings), few_shot.gate_inputs, seed))


def adapter_weights(model):
    """The weights of a PEFT model's adapter by name."""
    return {name: weights.detach() for name, weights in model.named_parameters() if "lora_" in name}


def few_rows_training(folder, checkpoints=None, **settings):
    """Train on 56 rows, 14 steps; the adapter's weights by name, and the log."""
    few_shot, validation = gates_decide(56), gates_decide(40, seed=1)
    model = with_new_adapter(load_model(folder), few_shot)
    few_rows = {"epochs": 2, "batch_size": 8, "rows_per_validation": 24, "rows_per_checkpoint": 8}
    log = train_adapter(model, Clicks(few_shot), validation, training_config(**few_rows | settings), checkpoints)
    return adapter_weights(model.model), log


def random_prompts(count=9, gate_dim=GATE_DIM, seed=0):
    generator = np.random.default_rng(seed)
    token_ids = [generator.integers(3, 300, generator.integers(1, 30)).tolist() for _ in range(count)]
    values = torch.from_numpy(generator.normal(size=(count, gate_dim)).astype(np.float32))
    lens_logits = torch.from_numpy(generator.normal(size=count).astype(np.float32))
    labels = generator.integers(0, 2, count)
    return PromptSet(np.arange(count), token_ids, labels, gate_inputs_of(values, lens_logits=lens_logits))


def with_adapter(model, std=0.5, blend="none", **settings):
    torch.manual_seed(0)
    settings = {"num_meta_loras": 3, "gate_dim": GATE_DIM, "gate_input": "target", **settings}
    return replace(with_model(model, with_random_adapter(model.model, std, **settings)), blend=blend)
