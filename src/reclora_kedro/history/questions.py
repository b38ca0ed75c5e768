"""Questions: whether a user likes an item, asked at a moment.

Whatever is scored is a table of questions: the rows that the LLM learns from and those that it is tested on, a
shortlist, the candidates of a like. It has the columns

- row (UInt32): number of the sample or, where the pair is none, its place in the list that it is from;
- use (String): few_shot, validation, test, `CANDIDATE`, or another one of an extension;
- label (Int8): 1 for a like, null where nobody knows;
- user_index, item_index (Int32), history_end and timestamp (Int64), see `log_builder.build_log`.
"""

import logging
from collections.abc import Iterable
from typing import Literal

import numpy as np
import polars as pl

from kedro_provenance.errors import NULL, Fault, Parameter, worded
from kedro_provenance.parameters import Block
from reclora_kedro.parameters import Count

logger = logging.getLogger(__name__)

MOMENT = ("user_index", "history_end", "timestamp")
"""Columns of a moment of a user; questions of one moment differ in their item only."""
CANDIDATE = "candidate"  # use of a question whose answer is unknown or withheld
LEARNING = [f"prompt_rows.{name}" for name in ("unit", "few_shot", "validation")]
"""Fields of `history` that determine which questions the LLM learns from."""
SPLITS = {"few_shot": "train", "validation": "validation", "test": "test"}
"""The split that the samples of a use are drawn from."""


class PromptRowsConfig(Block):
    """Number of rows, or of likes of whole impressions, of each split for the LLM; null for all."""

    unit: Literal["rows", "likes"]
    few_shot: Count | None
    validation: Count | None
    test: Count | None


def draw_questions(samples: pl.DataFrame, uses: Iterable[str], config: PromptRowsConfig, seed: int) -> pl.DataFrame:
    """Draw the samples for the LLM; return them by use and then row.

    Each use is drawn uniformly without replacement from its split by its own random stream: another size of one use
    leaves other uses unchanged, and a larger size keeps the rows of a smaller one. With unit likes, whole impressions
    (the samples of one moment) are drawn until they hold that many likes. A training split that is too small is refused
    by a Fault; a smaller validation or test split is used as a whole.
    """
    draws = []
    for use in uses:
        size, split = getattr(config, use), SPLITS[use]
        rows = samples.filter(pl.col("split") == split)
        group, counts = _drawn_together(rows, config.unit)
        if size is not None and size > counts.sum():
            if use == "few_shot":  # results are named by how many rows were learned from
                found, expected = f"requests {size} {config.unit}", f"the {split} split has {counts.sum()}"
                advice = "Request at most that many, or write ", NULL, " to take all"
                raise Fault(Parameter(f"history.prompt_rows.{use}"), found, expected, advice)
            parameter, found = Parameter(f"history.prompt_rows.{use}"), f" is {size} {config.unit}"
            logger.warning(worded(parameter, f"{found}, but the {split} split has {counts.sum()}: all are taken."))
            size = None
        order = np.random.default_rng([seed, list(SPLITS).index(use)]).permutation(len(counts))
        if size is not None:
            order = order[: np.searchsorted(counts[order].cumsum(), size) + 1]
        draws.append(questions(rows.filter(np.isin(group, order)), use))
    return pl.concat(draws)


def _drawn_together(rows: pl.DataFrame, unit: str) -> tuple[np.ndarray, np.ndarray]:
    if unit == "rows":
        return np.arange(rows.height), np.ones(rows.height, dtype=np.int64)
    group = rows.select(pl.struct(MOMENT).rank("dense") - 1).to_series().to_numpy()
    return group, np.bincount(group, rows["label"].to_numpy()).astype(np.int64)


def questions(pairs: pl.DataFrame, use: str = CANDIDATE) -> pl.DataFrame:
    """Return pairs of user and item at moments as questions; their label may be absent."""
    label = "label" if "label" in pairs.columns else pl.lit(None, dtype=pl.Int8).alias("label")
    return pairs.select("row", pl.lit(use).alias("use"), label, "user_index", "item_index", "history_end", "timestamp")
