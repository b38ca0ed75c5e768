"""Permutation importance of a model's inputs."""

from dataclasses import replace

import numpy as np
import polars as pl

from reclora_kedro.evaluation.attribution import permuted_rows
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.prompt_set import PromptSet
from reclora_kedro.scoring.config import ScoringConfig
from reclora_kedro.scoring.prompt_scores import score_table


def permuted_scores(
    model: AnswerModel, prompts: PromptSet, llm_logits: np.ndarray, config: ScoringConfig
) -> pl.DataFrame:
    """Score prompts with one input at a time permuted among the rows.

    `llm_logits`, shape (prompts,), are those of `AnswerModel.all_llm_logits` for the prompts as they are. The frame has
    row, label, input (prompt; gate inputs and lens logit if the model reads them) and score.
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
