"""The second stage: the LLM ranks each user's shortlist."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor
from tqdm import tqdm

from reclora_kedro.histories.feedback import FeedbackLog
from reclora_kedro.histories.records import prompt_records
from reclora_kedro.histories.retrieval import WindowConfig, assemble_history
from reclora_kedro.histories.sequences import Sequences
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.training import rows_of, score_rows
from reclora_kedro.llm.candidates import score_candidates
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompts import PromptConfig, build_prompts, prompt_format
from reclora_kedro.llm.scoring import PromptSet, prompt_set
from reclora_kedro.recommendation.candidates import best_of_each_user, first_pairs, samples_now

PAIRS_AT_ONCE = 2**12  # pairs of user and item that stand in memory as text at once
USE = "recommendation"


@dataclass(frozen=True)
class Ranker:
    """Scores pairs of user and item as of now: an adapted LLM with all that its prompts and gates read.

    Attributes:
        llm: the base LLM with the adapter that ranks, in eval mode.
        lens: the frozen lens that its gates read.
        sequences: every user's events.
        item_embeddings: shape (items, d), that retrieval compares.
        items: canonical items.
        users: canonical users.
        window: the short history of the adapter's prompts.
        template: Jinja text of the prompts.
        prompt_config: settings of the prompts.
        tokens_per_batch: most tokens in a batch of the LLM.
    """

    llm: LanguageModel
    lens: Lens
    sequences: Sequences
    item_embeddings: np.ndarray
    items: pl.DataFrame
    users: pl.DataFrame
    window: WindowConfig
    template: str
    prompt_config: PromptConfig
    tokens_per_batch: int

    def score(self, pairs: pl.DataFrame, progress: tqdm | None = None) -> pl.DataFrame:
        """The pairs with their score and the titles that their prompts showed, oldest first.

        Args:
            pairs: with user_index and item_index; a user's pairs that stand together may share a prompt's start.
            progress: bar that moves on by one a pair.

        Returns:
            The pairs with score (Float64) and shown_history (list of String).
        """
        samples = samples_now(pairs, self.sequences)
        records = self._records(samples)
        prompts = build_prompts(self.llm.tokenizer, records, self.template, self.prompt_config, self.llm.context_tokens)
        dropped = prompts["dropped_history"]
        # Prompts of a user that lost different parts of the history to the budget don't start alike.
        groups = pl.DataFrame([samples["user_index"], dropped]).select(pl.struct(pl.all()).rank("dense")).to_series()
        scores = score_candidates(
            self.llm,
            prompt_format(self.llm.tokenizer, self.prompt_config),
            self._prompt_set(prompts, samples),
            groups.to_numpy(),
            self.tokens_per_batch,
            progress,
        )
        shown = [
            [item["title"] for item in record["history"][left_out:]]
            for record, left_out in zip(records, dropped, strict=True)
        ]
        return pairs.with_columns(score=pl.Series(scores), shown_history=pl.Series(shown, dtype=pl.List(pl.String)))

    @cached_property
    def _feedback(self) -> FeedbackLog:
        return FeedbackLog(self.sequences, self.items)

    def _records(self, samples: pl.DataFrame) -> list[dict[str, Any]]:
        rows = samples.select(
            row=pl.int_range(pl.len(), dtype=pl.UInt32), use=pl.lit(USE), label=pl.lit(None, dtype=pl.Int8)
        )
        events = assemble_history(samples, self.sequences, self.item_embeddings, self.window)
        return prompt_records(rows, samples, self.sequences, events, self.items, self.users)

    def _prompt_set(self, prompts: pl.DataFrame, samples: pl.DataFrame) -> PromptSet:
        """The prompts with the lens's states of now; one state a user where gates read the user alone."""
        adapter = self.llm.model.active_peft_config
        rows = rows_of(self.lens, samples, self.sequences, self.item_embeddings)
        number = np.arange(samples.height)
        states: dict[str, Tensor] = score_rows(self.lens, rows, number)[0] | {"row": prompts["row"].to_torch()}
        if adapter.gate_input == "feedback":
            states["feedback"] = torch.from_numpy(self._feedback.statistics(samples))
        chosen = prompt_set(prompts, USE, states, adapter.gate_input)
        if adapter.num_meta_loras == 1:
            return replace(chosen, lens_states=None)
        if adapter.gate_input == "user":  # to the last bit, wherever the pair stood in the lens's batches
            first = first_pairs(samples.select(user_id="user_index")).to_numpy(writable=True)
            assert chosen.lens_states is not None
            return replace(chosen, lens_states=chosen.lens_states[first])
        return chosen


def rank_candidates(
    ranker: Ranker, shortlist: pl.DataFrame, items: pl.DataFrame, top_n: int
) -> tuple[pl.DataFrame, int]:
    """The best `top_n` of each user's shortlist, and how many pairs were scored.

    Args:
        ranker: what scores pairs.
        shortlist: as `shortlist_candidates` leaves it.
        items: canonical items.
        top_n: most items of a user.

    Returns:
        Frame with user_id, rank (from 1), item_id, title, score (probability of a like, null in a fallback),
        shown_history (titles that the prompt showed, oldest first) and fallback, users in the order of the shortlist;
        and the number of pairs scored.
    """
    ordered = shortlist.with_columns(place=first_pairs(shortlist))
    unscored = ordered.filter("fallback").with_columns(
        score=pl.lit(None, dtype=pl.Float64), shown_history=pl.lit([], dtype=pl.List(pl.String))
    )
    pairs = ordered.filter(~pl.col("fallback"))
    best = [unscored]
    with tqdm(total=pairs.height, desc="rank", unit="pair", disable=None) as progress:
        best += [
            best_of_each_user(ranker.score(part, progress), "score", top_n) for part in pairs.iter_slices(PAIRS_AT_ONCE)
        ]
    ranked = best_of_each_user(pl.concat(best).sort("place", maintain_order=True), "score", top_n)
    return ranked.select(
        "user_id",
        pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("user_id").alias("rank"),
        "item_id",
        items["title"].gather(ranked["item_index"]).alias("title"),
        "score",
        "shown_history",
        "fallback",
    ), pairs.height
