"""The second stage: prompts and gate inputs of each user's shortlist, and its ranking by the LLM."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from tqdm import tqdm

from reclora_kedro.adapters.gate_inputs import GateInputs
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.histories.records import prompt_records
from reclora_kedro.histories.retrieval import WindowConfig
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.config import StateKind
from reclora_kedro.lens.states import LensReader, gate_inputs
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompt_set import prompt_set
from reclora_kedro.llm.prompts import PromptConfig, build_prompts
from reclora_kedro.recommend.candidates import best_of_each_user, first_pairs
from reclora_kedro.scoring.shared_prefix import score_candidates

USE = "candidate"


MOMENT = ("user_index", "history_end", "timestamp")
"""What tells apart the moments of users: pairs of one moment differ in their item alone."""


def at_their_moments(log: InteractionLog, pairs: pl.DataFrame) -> InteractionLog:
    """The log with these pairs as its samples, at the moments that they name, or else after the log's end."""
    return log.at(pairs) if set(MOMENT) <= set(pairs.columns) else log.now(pairs)


def scored_pairs(shortlist: pl.DataFrame) -> pl.DataFrame:
    """The pairs of a shortlist that the LLM scores, all but those of fallbacks; row is their place in the shortlist."""
    return shortlist.with_row_index("row").filter(~pl.col("fallback"))


def candidate_histories(log: InteractionLog, shortlist: pl.DataFrame, window: WindowConfig) -> np.ndarray:
    """The events that the prompt of each scored pair may show of its user's past; see `assemble_history`."""
    return log.histories(at_their_moments(log, scored_pairs(shortlist)).samples, window)


def build_candidate_prompts(
    llm: LanguageModel,
    log: InteractionLog,
    shortlist: pl.DataFrame,
    history: np.ndarray,
    template: str,
    config: PromptConfig,
) -> pl.DataFrame:
    """Text and tokens of a prompt for each pair of the shortlist, but for the pairs of fallbacks.

    Returns:
        The columns of `build_prompts`, row being the place of the pair in the shortlist, and shown_history (titles
        that the prompt shows, oldest first).
    """
    pairs = scored_pairs(shortlist)
    rows = pairs.select(row=pl.int_range(pl.len(), dtype=pl.UInt32), use=pl.lit(USE), label=pl.lit(None, dtype=pl.Int8))
    records = prompt_records(rows, at_their_moments(log, pairs), history)
    prompts = build_prompts(llm.tokenizer, records, template, config, llm.context_tokens)
    shown = [
        [item["title"] for item in record["history"][left_out:]]
        for record, left_out in zip(records, prompts["dropped_history"], strict=True)
    ]
    return prompts.with_columns(pairs["row"], shown_history=pl.Series(shown, dtype=pl.List(pl.String)))


def candidate_gate_inputs(lens: Lens, log: InteractionLog, shortlist: pl.DataFrame, name: StateKind) -> GateInputs:
    """What gates read of each pair of the shortlist, but for the pairs of fallbacks; see `gate_inputs`.

    Gates that read the user alone get one input per user and moment, the same to the last bit: the candidates of that
    moment may then share the start of their prompts.
    """
    pairs = scored_pairs(shortlist)
    samples = at_their_moments(log, pairs).samples
    states = LensReader(lens, log).states(samples) | {"row": pairs["row"].cast(pl.Int64).to_torch()}
    if name == "user" and name in states:
        states[name] = states[name][first_pairs(samples, MOMENT).to_numpy(writable=True)]
    return gate_inputs(states, name)


def score_pairs(
    model: AnswerModel,
    pairs: pl.DataFrame,
    prompts: pl.DataFrame,
    inputs: GateInputs,
    tokens_per_batch: int,
    by: Sequence[str] = ("user_id",),
) -> pl.Series:
    """The LLM's probability of a like for each prompt; prompts that start alike share the work on their start.

    Args:
        model: the base LLM with the adapter.
        pairs: the pairs that the prompts are of, with their row.
        prompts: see `build_candidate_prompts`.
        inputs: see `candidate_gate_inputs`.
        tokens_per_batch: most tokens in one forward pass, padding included.
        by: columns of the pairs that prompts which may start alike have in common.
    """
    if prompts.is_empty():
        return pl.Series(dtype=pl.Float64)
    # Prompts of a user that lost different parts of the history to the budget don't start alike.
    alike = prompts.join(pairs.select("row", *by), on="row", maintain_order="left")
    groups = alike.select(pl.struct(*by, "dropped_history").rank("dense")).to_series().to_numpy()
    with tqdm(total=prompts.height, desc="rank", unit="pair", disable=None) as progress:
        scores = score_candidates(model, prompt_set(prompts, USE, inputs), groups, tokens_per_batch, progress)
    return pl.Series(scores)


def rank_candidates(
    model: AnswerModel,
    shortlist: pl.DataFrame,
    prompts: pl.DataFrame,
    inputs: GateInputs,
    top_n: int,
    tokens_per_batch: int,
) -> pl.DataFrame:
    """The best `top_n` of each user's shortlist.

    Returns:
        Frame with user_id, rank (from 1), item_id, title, score (probability of a like, null in a fallback),
        shown_history (titles that the prompt showed, oldest first) and fallback, users in the order of the shortlist.
    """
    pairs = shortlist.with_row_index("row")
    scores = score_pairs(model, pairs, prompts, inputs, tokens_per_batch)
    scored = prompts.select("row", "shown_history", score=scores)
    pairs = pairs.join(scored, on="row", how="left", maintain_order="left")
    return _best(pairs.with_columns(pl.col("shown_history").fill_null([])), top_n)


def rank_by_lens(shortlist: pl.DataFrame, top_n: int) -> pl.DataFrame:
    """The same by the lens's scores alone; no prompt shows anything.

    Examples:
        >>> shortlist = pl.DataFrame(
        ...     {"user_id": [7, 7], "item_id": [1, 2], "title": ["Heat", "Net"], "lens_score": [0.9, 0.4],
        ...      "fallback": [False, False]}
        ... )
        >>> rank_by_lens(shortlist, top_n=1).select("user_id", "rank", "title", "score").rows()
        [(7, 1, 'Heat', 0.9)]
    """
    nothing = pl.lit([], dtype=pl.List(pl.String))
    return _best(shortlist.with_columns(score="lens_score", shown_history=nothing), top_n)


def _best(pairs: pl.DataFrame, top_n: int) -> pl.DataFrame:
    ranked = best_of_each_user(pairs, "score", top_n)
    rank = pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("user_id").alias("rank")
    return ranked.select("user_id", rank, "item_id", "title", "score", "shown_history", "fallback")
