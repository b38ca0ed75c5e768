"""Likelihoods of titles as the next ones of a history, by an LLM."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.batching import TokenBudget
from reclora_kedro.llm.prompt_set import PromptBatch, PromptSet
from reclora_kedro.progress import Progress


@dataclass(frozen=True)
class Titles:
    """Prompts that end with a title each, after a history.

    Attributes:
        starts: number of tokens before each title, shape (prompts,).
    """

    prompts: PromptSet
    starts: np.ndarray

    def take(self, places: np.ndarray) -> "Titles":
        """Return the titles at some places."""
        return Titles(self.prompts.take(places), self.starts[places])


def with_titles(prompts: PromptSet, per_moment: int) -> Titles:
    """Find the titles of prompts, which are grouped by moment, `per_moment` each.

    A title begins where the prompts of its moment begin to differ, and ends with the prompt. So a template's text after
    the title counts for each of them, and common first words of all titles of a moment do not.

    Examples:
        >>> with_titles(PromptSet(np.arange(2), [[5, 6, 7], [5, 6, 8, 9]], np.zeros(2)), per_moment=2).starts
        array([2, 2])
    """
    starts = []
    for first in range(0, len(prompts.token_ids), per_moment):
        of_moment = prompts.token_ids[first : first + per_moment]
        differs = (len({*tokens}) > 1 for tokens in zip(*of_moment, strict=False))
        shared = next((place for place, differ in enumerate(differs) if differ), min(map(len, of_moment)) - 1)
        starts += [max(1, shared)] * per_moment  # the first token of all has nothing to be likely after
    return Titles(prompts, np.array(starts))


def title_states(model: AnswerModel, batch: PromptBatch, starts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the LLM's final states before the titles' tokens, these tokens, and their prompts.

    Args:
        model: an LLM with or without an adapter, whose gates read what the batch has.
        batch: the prompts.
        starts: tokens before each title, shape (batch,).

    Returns:
        States, shape (tokens, hidden); token ids, shape (tokens,); and the place of each one's prompt in the batch.
    """
    with model.gate_context(batch.gate_inputs):
        states = model.llm.last_hidden_states(batch.token_ids)
    places = torch.arange(batch.token_ids.shape[1], device=starts.device)
    prompts, positions = ((places >= starts[:, None] - 1) & (places < batch.last[:, None])).nonzero(as_tuple=True)
    return states[prompts, positions], batch.token_ids[prompts, positions + 1], prompts


def log_likelihoods(logits: Tensor, token_ids: Tensor, prompts: Tensor, count: int) -> Tensor:
    """Return the log probability of each title, the sum over its tokens, shape (count,); see `title_states`."""
    each = logits.log_softmax(1).gather(1, token_ids[:, None])[:, 0]
    return each.new_zeros(count).index_add(0, prompts, each)


@torch.inference_mode()
def score_titles(
    model: AnswerModel, titles: Titles, tokens_per_batch: int, description: str
) -> tuple[np.ndarray, list[Tensor]]:
    """Return the log probability of each title, float64, (prompts,), and the states before its tokens, on the CPU."""
    model.model.eval()
    scores, states, rows = np.zeros(len(titles.starts)), [torch.empty(0)] * len(titles.starts), len(titles.starts)

    def score(places: np.ndarray) -> tuple[np.ndarray, list[Tensor]]:
        starts = torch.from_numpy(titles.starts[places]).to(model.device)
        before, token_ids, prompts = title_states(model, titles.prompts.batch(places, model.device), starts)
        logits = model.llm.token_logits(before, slice(None))
        likelihoods = log_likelihoods(logits, token_ids, prompts, len(places)).double().cpu().numpy()
        return likelihoods, list(before.cpu().split(prompts.bincount(minlength=len(places)).tolist()))

    with Progress(description, rows, "rows") as progress:
        for places, (likelihoods, before) in TokenBudget(tokens_per_batch).run(
            np.arange(rows), titles.prompts.lengths, score
        ):
            scores[places] = likelihoods
            for place, each in zip(places, before, strict=True):
                states[place] = each
            progress.update(len(places))
    return scores, states
