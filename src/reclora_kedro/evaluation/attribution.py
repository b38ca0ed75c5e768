"""What each model reads: how far its AUC falls when one of its inputs is another row's.

Permutation importance (Breiman, "Random forests", Machine Learning, 2001), one permutation of the rows for all inputs.
"""

from typing import Any

import numpy as np
import polars as pl

from kedro_provenance.errors import MismatchError
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.scores import PairedScores, align_scores
from reclora_kedro.evaluation.significance import bootstrap_auc


def permuted_rows(count: int, most: int | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """At most so many of `count` rows, drawn uniformly, and for each of them another one of these, each used once.

    Examples:
        >>> rows, others = permuted_rows(1_000, 3, seed=0)
        >>> sorted(rows) == sorted(others), (rows == others).any()
        (True, np.False_)
    """
    drawn = np.random.default_rng(seed).permutation(count)[:most]
    return drawn, np.roll(drawn, 1)


def attribute(scores: pl.DataFrame, bootstrap: Bootstrap, **permuted: pl.DataFrame) -> list[dict[str, Any]]:
    """Loss of AUC of each model and input, on the rows that were permuted.

    Args:
        scores: row, user, label, model and score, as `collect_scores` leaves them.
        bootstrap: of the intervals.
        permuted: by model, row, label, input and score: what the model says of a row whose input is another row's.

    Returns:
        Records of model, input, rows, auc (on these rows), permuted_auc, fall (the former less the latter), low, high
        and confidence. An input whose interval holds 0 is not shown to be read.

    Raises:
        MismatchError: a permuted model or row is none of the scores'.
    """
    records, aligned = [], align_scores(scores)
    for model, table in permuted.items():
        for (name,), part in table.partition_by("input", as_dict=True, maintain_order=True).items():
            auc = bootstrap_auc(_beside(aligned, model, part), bootstrap)
            fall = auc.differences(np.array([0]), np.array([1]))
            values = (*auc.value, *fall.value, *np.concatenate(fall.interval(bootstrap.confidence)))
            named = dict(zip(("auc", "permuted_auc", "fall", "low", "high"), map(float, values), strict=True))
            record = {"model": model, "input": name, "rows": part.height}
            records.append(record | named | {"confidence": bootstrap.confidence})
    return records


def _beside(aligned: PairedScores, model: str, permuted: pl.DataFrame) -> PairedScores:
    """The model's own scores and those with a permuted input, on the rows that were permuted."""
    entries = "scores", f"{model}.permuted_scores"
    if model not in aligned.models:
        raise MismatchError(
            f"scores are of {', '.join(aligned.models)}, but there are permuted ones of {model}, too: they stem from "
            "runs of different variants.",
            *entries,
        )
    place = np.searchsorted(aligned.rows, permuted["row"].to_numpy()).clip(max=len(aligned.rows) - 1)
    if (aligned.rows[place] != permuted["row"].to_numpy()).any():
        raise MismatchError(
            f"scores lack a row that {model} scored with a permuted input: they stem from different runs.", *entries
        )
    own = aligned.scores[aligned.models.index(model)][place]
    scores = np.stack([own, permuted["score"].to_numpy()])
    return PairedScores((model, "permuted"), aligned.rows[place], aligned.users[place], aligned.labels[place], scores)
