"""Scoring of prompts, and the table of scores."""

import numpy as np
import polars as pl

from reclora_kedro.gate_inputs import GateInputs
from reclora_kedro.history.questions import CANDIDATE, MOMENT
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.prompt_set import PromptSet, prompt_set
from reclora_kedro.llm.shared_prefix import score_candidates
from reclora_kedro.progress import Progress


def score_prompts(
    model: AnswerModel, prompts: pl.DataFrame, gate_inputs: GateInputs, tokens_per_batch: int
) -> pl.Series:
    """Return the probability of a like for each prompt of use `CANDIDATE`.

    Prompts of one moment share their prefix. A batch holds at most `tokens_per_batch` tokens, padding included.
    """
    if prompts.is_empty():
        return pl.Series(dtype=pl.Float64)
    # Prompts of a moment whose histories were cut differently to fit the budget have different prefixes.
    groups = prompts.select(pl.struct(*MOMENT, "dropped_history").rank("dense")).to_series().to_numpy()
    with Progress("rank", prompts.height, "pairs") as progress:
        scores = score_candidates(
            model, prompt_set(prompts, CANDIDATE, gate_inputs), groups, tokens_per_batch, progress
        )
    return pl.Series(scores)


def score_table(prompts: PromptSet, scores: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame(
        {"row": prompts.rows, "label": prompts.labels, "score": scores},
        schema={"row": pl.UInt32, "label": pl.Int8, "score": pl.Float64},
    )
