"""Distilling of an LLM with an adapter into the first layers of an LLM (SLMRec, arXiv 2405.17890)."""

from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from reclora_extras.base_models.config import DistillConfig
from reclora_extras.base_models.pruning import with_layers
from reclora_extras.base_models.tuning import tune
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.batching import TokenBudget
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompt_set import PromptBatch, PromptSet
from reclora_kedro.llm.prompts import PromptFormat
from reclora_kedro.progress import Progress


def first_layers(llm: LanguageModel, config: DistillConfig) -> LanguageModel:
    """The student as it begins: the LLM's first layers.

    Raises:
        ValueError: the LLM has fewer layers, or there are more blocks than layers.
    """
    require_layers(llm.model.config.get_text_config().num_hidden_layers, config)
    return with_layers(llm, range(config.layers))


def require_layers(count: int, config: DistillConfig) -> None:
    """Refuse a student that an LLM of so many layers has too few for, or that has fewer layers than blocks.

    Raises:
        ValueError: it is such a one.
    """
    if not config.blocks <= config.layers <= count:
        raise ValueError(
            f"base_model.distill.layers is {config.layers} and base_model.distill.blocks is {config.blocks}, but a "
            f"student has at most the {count} layers of the base LLM, and at least one per block: change them."
        )


def distill(
    student: LanguageModel,
    teacher: AnswerModel,
    prompts: PromptSet,
    config: DistillConfig,
    tokens_per_batch: int,
    seed: int,
) -> tuple[LanguageModel, dict[str, float]]:
    """The student tuned by `distilling_losses`, and steps, first_loss and last_loss, see `tune`.

    Args:
        student: what learns, see `first_layers`.
        teacher: a base LLM with a trained adapter; what it makes of the prompts is computed once.
        prompts: with labels, and with what the teacher's gates read.
        tokens_per_batch: most tokens in one forward pass, padding included.
    """
    taught = teacher_states(teacher, prompts, config.blocks, tokens_per_batch)
    labels = torch.from_numpy(np.asarray(prompts.labels, dtype=np.float32))

    def losses(llm: LanguageModel, rows: np.ndarray) -> Tensor:
        batch = prompts.batch(rows, llm.device)
        states = block_states(llm, batch, config.blocks)
        logits = answers_of_blocks(llm, states, teacher.prompt_format)
        return distilling_losses(states, taught[rows].to(states), logits, labels[rows].to(states), config)

    return tune(student, prompts.lengths, losses, config.tuning, tokens_per_batch, seed)


def distilling_losses(states: Tensor, taught: Tensor, logits: Tensor, labels: Tensor, config: DistillConfig) -> Tensor:
    """What a student has to lower, of each prompt (SLMRec, equations 4 to 8).

    The cross entropy of its answer, and means over blocks, each with its weight: 1 - cos of its state and the
    teacher's, their squared distance as a share of the squared length of the teacher's, and, of blocks but the last,
    the cross entropy of the answer that the block alone would give.

    Args:
        states: of the student at each prompt's end behind each block, shape (batch, blocks, hidden).
        taught: of the teacher, likewise.
        logits: of the positive answer against the negative one behind each block, shape (batch, blocks).
        labels: 1 for a like, shape (batch,).

    Returns:
        Shape (batch,).
    """
    wrong = functional.binary_cross_entropy_with_logits(logits, labels[:, None].expand_as(logits), reduction="none")
    angle = 1 - functional.cosine_similarity(states, taught, dim=-1)
    distance = (states - taught).square().sum(-1) / taught.square().sum(-1)
    loss = wrong[:, -1] + config.cosine_weight * angle.mean(1) + config.distance_weight * distance.mean(1)
    if states.shape[1] == 1:
        return loss
    return loss + config.block_answer_weight * wrong[:, :-1].mean(1)


@torch.inference_mode()
def teacher_states(teacher: AnswerModel, prompts: PromptSet, blocks: int, tokens_per_batch: int) -> Tensor:
    """States of a teacher at each prompt's end behind each of its blocks, float32, (prompts, blocks, hidden)."""
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
    """States at each prompt's end behind each block of layers, before the last norm, (batch, blocks, hidden)."""
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
    """Number of the last layer of each block, where layers are divided among blocks as evenly as can be.

    Examples:
        >>> block_ends(15, 5), block_ends(30, 5), block_ends(7, 3)
        ([2, 5, 8, 11, 14], [5, 11, 17, 23, 29], [1, 4, 6])
    """
    return [round((block + 1) * layers / blocks) - 1 for block in range(blocks)]


def answers_of_blocks(llm: LanguageModel, states: Tensor, answers: PromptFormat) -> Tensor:
    """Logit of the positive answer against the negative one that the LLM's norm and head make of states behind blocks.

    Shapes (batch, blocks, hidden) to (batch, blocks).
    """
    normed = llm.model.get_decoder().norm(states)
    logits = llm.token_logits(normed.flatten(0, 1), [answers.positive, answers.negative])
    return (logits[:, 0] - logits[:, 1]).view(states.shape[:2])
