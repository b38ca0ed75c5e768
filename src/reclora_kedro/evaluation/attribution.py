"""Permutation importance of each model's inputs: the AUC lost when an input is taken from another row.

Breiman, "Random forests" (Machine Learning, 2001); one permutation of the rows serves all inputs.
"""

from typing import cast

import numpy as np
import polars as pl

from kedro_provenance.errors import MismatchError
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.metrics import LEAST_USERS, user_aucs
from reclora_kedro.evaluation.records import InputEffect
from reclora_kedro.evaluation.scores import PairedScores, align_scores
from reclora_kedro.evaluation.significance import bootstrap_auc


def permuted_rows(count: int, limit: int | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw at most `limit` of `count` rows uniformly, and pair each with another of them, each used once.

    Examples:
        >>> rows, others = permuted_rows(1_000, 3, seed=0)
        >>> sorted(rows) == sorted(others), (rows == others).any()
        (True, np.False_)
    """
    drawn = np.random.default_rng(seed).permutation(count)[:limit]
    return drawn, np.roll(drawn, 1)


def attribute(scores: pl.DataFrame, bootstrap: Bootstrap, **permuted: pl.DataFrame) -> list[InputEffect]:
    """Return each model's loss of AUC per permuted input, on the rows that were permuted.

    `permuted` has, by model, a frame of row, label, input and score, with the input taken from another row.
    """
    effects, aligned = list[InputEffect](), align_scores(scores)
    for model, table in permuted.items():
        for (name,), part in table.partition_by("input", as_dict=True, maintain_order=True).items():
            pair = _original_and_permuted(aligned, model, part)
            auc = bootstrap_auc(pair, bootstrap)
            fall = auc.differences(np.array([0]), np.array([1]))
            [low], [high] = fall.interval(bootstrap.confidence)
            record = {"model": model, "input": name, "rows": part.height}
            record |= {"auc": float(auc.value[0]), "permuted_auc": float(auc.value[1]), "fall": float(fall.value[0])}
            record |= {"low": float(low), "high": float(high), "confidence": bootstrap.confidence}
            record |= _fall_within_users(pair, bootstrap)
            effects.append(cast(InputEffect, record))
    return effects


def _fall_within_users(pair: PairedScores, bootstrap: Bootstrap) -> dict[str, float | None]:
    """Return the fall of the GAUC and the ends of its interval."""
    by_user, rows = user_aucs(pair.users, pair.labels, pair.scores)
    if len(rows) < LEAST_USERS:
        return dict.fromkeys(("within", "within_low", "within_high"))
    fall = bootstrap.means(by_user[:, :1] - by_user[:, 1:], rows)
    [low], [high] = fall.interval(bootstrap.confidence)
    return {"within": float(fall.value[0]), "within_low": float(low), "within_high": float(high)}


def _original_and_permuted(aligned: PairedScores, model: str, permuted: pl.DataFrame) -> PairedScores:
    entries = "scores", f"{model}.permuted_scores"
    if model not in aligned.models:
        raise MismatchError(
            f"scores holds the models {', '.join(aligned.models)}, but permuted scores exist for {model}: they stem "
            "from runs with different variants. Run the scoring pipeline again.",
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
