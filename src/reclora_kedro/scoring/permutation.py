"""What a model reads of its inputs: its scores when one of them is another row's."""

from dataclasses import replace

import numpy as np
import polars as pl

from reclora_kedro.evaluation.attribution import permuted_rows
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.prompt_set import PromptSet
from reclora_kedro.scoring.prompt_scores import ScoringConfig, score_table


def permuted_scores(
    model: AnswerModel, prompts: PromptSet, llm_logits: np.ndarray, config: ScoringConfig
) -> pl.DataFrame:
    """Scores of prompts when one input after the other is permuted among them; the label stays with the rest.

    Args:
        model: the LLM, with its adapter if any.
        prompts: what it scores.
        llm_logits: its own logits of these prompts, shape (prompts,), see `AnswerModel.llm_logits`.
        config: which inputs are permuted, and on how many rows.

    Returns:
        Frame with row, label, input (prompt; gate inputs and lens logit where the model reads them) and score.
    """
    rows, others = permuted_rows(len(prompts.labels), config.permuted_rows, config.seed)
    # One pass serves two inputs: the prompts of other rows with these gate inputs are, the other way round, these gate
    # inputs with the prompts of the other rows.
    crossed = llm_logits[others]
    if model.has_gates and not {"prompt", "gate inputs"}.isdisjoint(config.permuted_inputs):
        order = np.argsort(others)  # where all rows are permuted, their batches are those that were scored
        pairs = replace(prompts.take(rows[order]), token_ids=[prompts.token_ids[other] for other in others[order]])
        crossed[order] = model.all_llm_logits(pairs, config.tokens_per_batch, "permuted prompts")

    own, other = prompts.take(rows), prompts.take(others)
    parts = {"prompt": (own, crossed, own)}
    if model.has_gates:
        parts["gate inputs"] = (other, crossed, other)
    if model.blend != "none" and own.gate_inputs is not None and other.gate_inputs is not None:
        by_others = replace(own.gate_inputs, lens_logits=other.gate_inputs.lens_logits)
        parts["lens logit"] = (own, llm_logits[rows], replace(own, gate_inputs=by_others))
    tables = [score_table(own.take(rows[:0]), llm_logits[:0]).with_columns(input=pl.lit(""))]
    for name, (own, logits, beside) in parts.items():
        if name in config.permuted_inputs:
            tables.append(score_table(own, model.probabilities(logits, beside)).with_columns(input=pl.lit(name)))
    return pl.concat(tables)
