"""Scores of several models on the same rows: the one form that every evaluation function takes."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

COLUMNS = ("row", "label", "model", "score")


@dataclass(frozen=True)
class PairedScores:
    """Scores of M models on the same n rows.

    Attributes:
        models: names, in the order of their first appearance in the scores.
        labels: True for a like, shape (n,).
        scores: probabilities of a like, shape (M, n).
    """

    models: tuple[str, ...]
    labels: npt.NDArray[np.bool_]
    scores: npt.NDArray[np.float64]


def align_scores(scores: pl.DataFrame) -> PairedScores:
    """Bring the scores of all models to the same order of rows, or refuse them.

    Args:
        scores: one line a row and model: row, label (0 or 1), model, score (probability of a like).

    Raises:
        ValueError: a column is missing; a score is not a probability; a label is not 0 or 1; a model
            scored a row twice, or other rows or labels than the first model; fewer than two rows of a
            class, for which neither the AUC nor its variance is defined.

    Examples:
        >>> pair = align_scores(
        ...     pl.DataFrame(
        ...         {
        ...             "row": [1, 0, 2, 3, 0, 1, 2, 3],
        ...             "label": [0, 1, 1, 0, 1, 0, 1, 0],
        ...             "model": ["lens"] * 4 + ["reclora"] * 4,
        ...             "score": [0.1, 0.9, 0.8, 0.2, 0.7, 0.3, 0.6, 0.4],
        ...         }
        ...     )
        ... )
        >>> pair.models
        ('lens', 'reclora')
        >>> pair.scores
        array([[0.9, 0.1, 0.8, 0.2],
               [0.7, 0.3, 0.6, 0.4]])
    """
    _check_values(scores)
    tables = {
        str(model): table for (model,), table in scores.partition_by("model", as_dict=True, maintain_order=True).items()
    }
    tables = {model: table.sort("row") for model, table in tables.items()}
    reference, *others = tables
    _check_unique_rows(tables)
    for model in others:
        _check_same_rows(model, tables[model], reference, tables[reference])
    labels = tables[reference]["label"].to_numpy() == 1
    _check_classes(labels)
    return PairedScores(tuple(tables), labels, np.stack([table["score"].to_numpy() for table in tables.values()]))


def _check_values(scores: pl.DataFrame) -> None:
    if missing := [column for column in COLUMNS if column not in scores.columns]:
        raise ValueError(
            f"scores: missing column(s) {missing}, found {scores.columns}. Run the scoring pipeline again."
        )
    if scores.is_empty():
        raise ValueError("scores: the table has no rows. Run the scoring pipeline on at least one test row.")
    # `is_between` is null for a null and False for NaN: both count as bad.
    bad = scores.filter(~pl.col("score").is_between(0, 1).fill_null(False))
    if not bad.is_empty():
        first = bad.row(0, named=True)
        raise ValueError(
            f"scores: {bad.height} score(s) are no probability, the first of them {first['score']} of model "
            f"{first['model']!r} for row {first['row']}; expected a number from 0 to 1. Check that model's training."
        )
    bad = scores.filter(~pl.col("label").is_in([0, 1]).fill_null(False))
    if not bad.is_empty():
        raise ValueError(
            f"scores: {bad.height} label(s) are neither 0 nor 1, the first of them {bad['label'][0]} for row "
            f"{bad['row'][0]}. Labels come from the ingestion step."
        )


def _check_unique_rows(tables: dict[str, pl.DataFrame]) -> None:
    for model, table in tables.items():
        repeated = table.filter(pl.col("row").is_duplicated())
        if not repeated.is_empty():
            raise ValueError(
                f"scores: model {model!r} has several scores for {repeated['row'].n_unique()} row(s), the first of "
                f"them row {repeated['row'][0]}; expected one score a row and model."
            )


def _check_same_rows(model: str, table: pl.DataFrame, reference: str, expected: pl.DataFrame) -> None:
    missing = expected.join(table, on="row", how="anti").height
    extra = table.join(expected, on="row", how="anti").height
    if missing or extra:
        raise ValueError(
            f"scores: model {model!r} was not scored on the rows of {reference!r}: {missing} row(s) are missing and "
            f"{extra} are extra. Score all models on the same test rows."
        )
    disagreeing = table.filter(table["label"] != expected["label"])
    if not disagreeing.is_empty():
        raise ValueError(
            f"scores: models {model!r} and {reference!r} disagree on the label of {disagreeing.height} row(s), the "
            f"first of them row {disagreeing['row'][0]}. Score all models from the same samples."
        )


def _check_classes(labels: npt.NDArray[np.bool_]) -> None:
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if min(positives, negatives) < 2:
        raise ValueError(
            f"scores: {positives} row(s) have label 1 and {negatives} have label 0; AUC and its variance need at "
            "least two of each. Score more test rows, or check the label threshold of the ingestion step."
        )
