"""A tiny fine-tuning: its settings, and prompts of which only the lens knows the answer."""

import numpy as np
import torch

from reclora_kedro.adapters.personalized import AdapterConfig, new_adapter
from reclora_kedro.llm.language_model import load_language_model
from reclora_kedro.llm.prompts import PromptFormat
from reclora_kedro.llm.scoring import PromptSet
from reclora_kedro.llm.training import TrainingConfig, train_adapter

FORM = PromptFormat(prefix=[], suffix=[], positive=40, negative=41)


def adapter_config(**settings):
    return AdapterConfig(
        **{
            "num_meta_loras": 4,
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ("q_proj", "v_proj"),
            "last_layers": None,
            "composition": "product_of_sums",
            "gate_input": "target",
            "gate_hidden_dim": 8,
            "gate_dropout": 0.1,
            "state_norm": "standard",
            "temperature": 1.0,
            **settings,
        }
    )


def training_config(**settings):
    return TrainingConfig(
        **{
            "epochs": 8,
            "rows_per_step": 16,
            "learning_rate": 2e-2,
            "weight_decay": 0.0,
            "warmup_share": 0.1,
            "max_gradient_norm": 1.0,
            "averaged_share": 0.0,
            "schedule": "linear",
            "rows_per_validation": 128,
            "patience": None,
            "rows_per_checkpoint": 32,
            "tokens_per_batch": 400,
            "gradient_checkpointing": False,
            "processes": 1,
            "seed": 3,
            **settings,
        }
    )


def lens_decides(count=128, lens_dim=6, seed=0):
    """Prompts that say nothing; only the lens state tells the label."""
    generator = np.random.default_rng(seed)
    states = generator.normal(size=(count, lens_dim)).astype(np.float32)
    token_ids = [generator.integers(3, 300, generator.integers(4, 20)).tolist() for _ in range(count)]
    return PromptSet(np.arange(count), token_ids, (states[:, 0] > 0).astype(np.int8), torch.from_numpy(states))


def adapted_llm(folder, few_shot, seed=3, **adapter):
    """The tiny LLM in a folder with a fresh adapter."""
    llm = load_language_model(str(folder), dtype="float32", device="cpu")
    return llm.with_model(new_adapter(llm.model, adapter_config(**adapter), few_shot.lens_states, seed))


def few_rows_training(folder, checkpoints=None, **settings):
    """Train on 56 rows, 14 steps, half of them averaged; the adapter's weights by name, and the log."""
    few_shot, validation = lens_decides(56), lens_decides(40, seed=1)
    llm = adapted_llm(folder, few_shot)
    config = {"epochs": 2, "rows_per_step": 8, "averaged_share": 0.5, "rows_per_validation": 24, **settings}
    log = train_adapter(
        llm, FORM, few_shot, validation, training_config(**{"rows_per_checkpoint": 8} | config), checkpoints
    )
    return {name: weights.detach() for name, weights in llm.model.named_parameters() if "reclora" in name}, log
