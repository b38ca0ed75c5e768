"""Permutation importance of the inputs of an LLM, and of a lens."""

import math
from collections.abc import Collection
from dataclasses import replace

import numpy as np
import polars as pl
import torch
from torch import Tensor

from reclora_kedro.devices import choose_device
from reclora_kedro.evaluation.attribution import permuted_rows
from reclora_kedro.gate_inputs import GateInputs
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.lens.base import History, Lens
from reclora_kedro.lens.features import SCORING_BATCH_SIZE, LensLoader
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.prompt_set import PromptSet, prompt_set
from reclora_kedro.scoring.config import ScoringConfig
from reclora_kedro.scoring.prompt_scores import score_table

INPUTS = {
    "user": ("user",),
    "item": ("item",),
    "history": ("recent_history", "long_history"),
    "rating statistics": ("statistics",),
}
"""Parts of a `LensBatch` that are permuted together, by name in reports."""


def score_with_permuted(
    model: AnswerModel, prompts: pl.DataFrame, gate_inputs: GateInputs | None, config: ScoringConfig
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Score the test prompts as they are, and with one input permuted at a time, see `permuted_scores`."""
    test, retitled = prompt_set(prompts, "test", gate_inputs), None
    logits = model.all_llm_logits(test, config.tokens_per_batch, "score")
    if "title" in config.permuted_inputs:
        exchanged = prompts.with_columns(token_ids="retitled_ids").drop_nulls("token_ids")
        retitled = prompt_set(exchanged, "test", gate_inputs)
    scores = score_table(test, model.probabilities(logits, test))
    return scores, permuted_scores(model, test, logits, config, retitled)


def permuted_scores(
    model: AnswerModel,
    prompts: PromptSet,
    llm_logits: np.ndarray,
    config: ScoringConfig,
    retitled: PromptSet | None = None,
) -> pl.DataFrame:
    """Score prompts with one input at a time permuted among the rows.

    `llm_logits`, shape (prompts,), are those of `AnswerModel.all_llm_logits` for the prompts as they are; `retitled`
    are prompts of these rows whose targets exchanged their titles. The frame has row, label, input (title; prompt; gate
    inputs and lens logit if the model reads them) and score.
    """
    rows, others = permuted_rows(len(prompts.labels), config.permuted_rows, config.seed)
    # One pass serves two inputs: row i's gate inputs with row j's prompt permute the prompt of i and the inputs of j.
    crossed = llm_logits[others]
    if model.has_gates and not {"prompt", "gate inputs"}.isdisjoint(config.permuted_inputs):
        order = np.argsort(others)  # the order of scoring, whose batches the frozen layers remember
        pairs = replace(prompts.take(rows[order]), token_ids=[prompts.token_ids[other] for other in others[order]])
        crossed[order] = model.all_llm_logits(pairs, config.tokens_per_batch, "permuted prompts")

    own, other = prompts.take(rows), prompts.take(others)
    parts = {"prompt": (own, crossed, own)}
    if retitled is not None:
        retitled = retitled.take(np.flatnonzero(np.isin(retitled.rows, own.rows)))
        parts["title"] = (retitled, model.all_llm_logits(retitled, config.tokens_per_batch, "titles"), retitled)
    if model.has_gates:
        parts["gate inputs"] = (other, crossed, other)
    if model.blend != "none" and own.gate_inputs is not None and other.gate_inputs is not None:
        permuted_gate_inputs = replace(own.gate_inputs, lens_logits=other.gate_inputs.lens_logits)
        parts["lens logit"] = (own, llm_logits[rows], replace(own, gate_inputs=permuted_gate_inputs))
    # An empty table first, so that the frame has its columns even if no input is permuted.
    tables = [score_table(own.take(rows[:0]), llm_logits[:0]).with_columns(input=pl.lit(""))]
    for name, (own, logits, blended) in parts.items():
        if name in config.permuted_inputs:
            tables.append(score_table(own, model.probabilities(logits, blended)).with_columns(input=pl.lit(name)))
    return pl.concat(tables)


@torch.inference_mode()
def permuted_lens_scores(
    lens: Lens, log: InteractionLog, questions: pl.DataFrame, inputs: Collection[str] = tuple(INPUTS)
) -> pl.DataFrame:
    """Score labelled questions with one input at a time taken from the previous question of the batch.

    Questions are in random order, and batches have about equal sizes, so that none has a single one. Of the `INPUTS`
    named, those that the lens does not have are skipped. The frame has row, label, input and score.
    """
    device = choose_device(lens.config.device)
    lens.to(device)
    read = [name for name in INPUTS if name in inputs]
    if not lens.config.rating_statistics:
        read = [name for name in read if name != "rating statistics"]
    parts = [questions.select("row", "label", input=pl.lit(""), score=pl.lit(0.0)).clear()]
    count = questions.height
    size = math.ceil(count / max(1, math.ceil(count / SCORING_BATCH_SIZE))) or 1
    for places, batch in LensLoader(log, lens).batches(questions, size):
        batch, chosen = batch.to(device), questions[places].select("row", "label")
        for name in read:
            other = {part: _roll(getattr(batch, part)) for part in INPUTS[name]}
            score = torch.sigmoid(lens(replace(batch, **other)).double()).cpu().numpy()
            parts.append(chosen.with_columns(input=pl.lit(name), score=score))
    return pl.concat(parts)


def _roll(part: Tensor | History) -> Tensor | History:
    if isinstance(part, Tensor):
        return part.roll(1, dims=0)
    return part.map(lambda tensor: tensor.roll(1, dims=0))
