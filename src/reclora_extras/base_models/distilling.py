"""Distilling of an LLM with an adapter, which answers prompts by Yes or No, into the first layers of an LLM.

The losses are those of SLMRec (arXiv 2405.17890), whose LLM is a sequential recommender over item embeddings instead.
"""

from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from reclora_extras.base_models.config import DistillConfig
from reclora_extras.base_models.tuning import tune
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.batching import TokenBudget
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompt_set import PromptBatch, PromptSet
from reclora_kedro.llm.prompts import PromptFormat
from reclora_kedro.progress import Progress

# Weights of the losses beside the answer's cross entropy, as SLMRec's: states agree in direction first.
COSINE_WEIGHT = 1.0  # of 1 - cos of the states
DISTANCE_WEIGHT = 0.1  # of their squared distance, as a share of the teacher's squared length
BLOCK_ANSWER_WEIGHT = 0.1  # of the cross entropy of each block's answer


def require_layers(count: int, config: DistillConfig) -> None:
    """Raise ValueError for an LLM with too few layers for a student."""
    if config.layers > count:
        raise ValueError(
            f"base_model.distill.layers is {config.layers}, but a student has at most the {count} layers of the base "
            "LLM: lower it."
        )


def distill(
    student: LanguageModel,
    teacher: AnswerModel,
    prompts: PromptSet,
    config: DistillConfig,
    tokens_per_batch: int,
    seed: int,
) -> tuple[LanguageModel, dict[str, float]]:
    """Return the student tuned by `distilling_losses`, and steps, first_loss and last_loss, see `tune`.

    The initial student is the base LLM's first layers. The teacher's states of the prompts, which have labels and its
    gate inputs, are computed once.
    """
    taught = teacher_states(teacher, prompts, config.blocks, tokens_per_batch)
    labels = torch.from_numpy(np.asarray(prompts.labels, dtype=np.float32))

    def losses(llm: LanguageModel, rows: np.ndarray) -> Tensor:
        batch = prompts.batch(rows, llm.device)
        states = block_states(llm, batch, config.blocks)
        logits = answers_of_blocks(llm, states, teacher.prompt_format)
        return distilling_losses(states, taught[rows].to(states), logits, labels[rows].to(states))

    return tune(student, prompts.lengths, losses, config.tuning, tokens_per_batch, seed)


def distilling_losses(states: Tensor, taught: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the student's loss for each prompt (SLMRec, equations 4 to 8), shape (batch,).

    It is the cross entropy of its answer, and weighted means over blocks: 1 - cos of the student's and the teacher's
    states, their squared distance as a share of the teacher's squared length and, for all blocks but the last, the
    cross entropy of the block's own answer.

    `states` and `taught`, the teacher's, are those at each prompt's end after each block, (batch, blocks, hidden);
    `logits` are of the positive against the negative answer after each block, (batch, blocks).
    """
    wrong = functional.binary_cross_entropy_with_logits(logits, labels[:, None].expand_as(logits), reduction="none")
    angle = 1 - functional.cosine_similarity(states, taught, dim=-1)
    distance = (states - taught).square().sum(-1) / taught.square().sum(-1)
    loss = wrong[:, -1] + COSINE_WEIGHT * angle.mean(1) + DISTANCE_WEIGHT * distance.mean(1)
    if states.shape[1] == 1:
        return loss
    return loss + BLOCK_ANSWER_WEIGHT * wrong[:, :-1].mean(1)


@torch.inference_mode()
def teacher_states(teacher: AnswerModel, prompts: PromptSet, blocks: int, tokens_per_batch: int) -> Tensor:
    """Return the teacher's states at each prompt's end after each block, float32, (prompts, blocks, hidden)."""
    hidden = teacher.model.config.get_text_config().hidden_size
    states = torch.zeros(len(prompts.labels), blocks, hidden)

    def read(rows: np.ndarray) -> Tensor:
        batch = prompts.batch(rows, teacher.device)
        with teacher.gate_context(batch.gate_inputs):
            return block_states(teacher.llm, batch, blocks).float().cpu()

    rows = np.arange(len(states))
    with Progress("ask the teacher", len(rows), "prompts") as progress:
        for part, values in TokenBudget(tokens_per_batch).run(rows, prompts.lengths, read):
            states[torch.from_numpy(part)] = values
            progress.update(len(part))
    return states.clone()  # a tensor of inference mode has no part in training


def block_states(llm: LanguageModel, batch: PromptBatch, blocks: int) -> Tensor:
    """Return states at each prompt's end after each block, before the last norm, (batch, blocks, hidden)."""
    decoder = llm.model.get_decoder()
    layers = [decoder.layers[last] for last in block_ends(len(decoder.layers), blocks)]
    rows = torch.arange(len(batch.last), device=batch.last.device)
    outputs: list[Tensor] = []

    def keep(_: nn.Module, inputs: Any, output: Any) -> None:
        outputs.append(output[0] if isinstance(output, tuple) else output)

    with ExitStack() as hooks:
        for layer in layers:
            hooks.enter_context(layer.register_forward_hook(keep))
        decoder(input_ids=batch.token_ids, use_cache=False)
    return torch.stack([states[rows, batch.last] for states in outputs], dim=1)


def block_ends(layers: int, blocks: int) -> list[int]:
    """Return the number of the last layer of each block, for blocks that are as equal as possible.

    Examples:
        >>> block_ends(15, 5), block_ends(30, 5), block_ends(7, 3)
        ([2, 5, 8, 11, 14], [5, 11, 17, 23, 29], [1, 4, 6])
    """
    return [round((block + 1) * layers / blocks) - 1 for block in range(blocks)]


def answers_of_blocks(llm: LanguageModel, states: Tensor, answers: PromptFormat) -> Tensor:
    """Return logits of the positive against the negative answer, by the LLM's norm and head, for states after blocks.

    Shapes (batch, blocks, hidden) to (batch, blocks).
    """
    normed = llm.model.get_decoder().norm(states)
    logits = llm.token_logits(normed.flatten(0, 1), [answers.positive, answers.negative])
    return (logits[:, 0] - logits[:, 1]).view(states.shape[:2])
