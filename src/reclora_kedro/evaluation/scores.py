"""Scores of several models on the same rows: collected, and aligned for every evaluation function."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from reclora_kedro.errors import MismatchError, require_both_classes

COLUMNS = ("row", "user", "label", "model", "score")


@dataclass(frozen=True)
class PairedScores:
    """Scores of M models on the same n rows.

    Attributes:
        models: names, in the order of their first appearance in the scores.
        rows: row number of each sample, ascending, shape (n,).
        users: index of each row's user, shape (n,).
        labels: True for a like, shape (n,).
        scores: probabilities of a like, shape (M, n).
    """

    models: tuple[str, ...]
    rows: npt.NDArray[np.integer]
    users: npt.NDArray[np.integer]
    labels: npt.NDArray[np.bool_]
    scores: npt.NDArray[np.float64]


def collect_scores(tables: dict[str, pl.DataFrame], questions: pl.DataFrame) -> pl.DataFrame:
    """The scores of every model on the same test rows, in one long table.

    Args:
        tables: by model name, a table with row and score; other rows than the test's are left out.
        questions: row, user_index and label of the test rows.

    Returns:
        Frame with row, user (the user's index in the log), label, model and score, models in the order given.

    Raises:
        MismatchError: a model has no score for a test row.
    """
    test_rows, parts = questions.select("row", "label", user="user_index"), []
    for model, table in tables.items():
        scored = test_rows.join(table.select("row", "score"), on="row", how="left", maintain_order="left")
        missing = scored.filter(pl.col("score").is_null())
        if not missing.is_empty():
            raise MismatchError(
                f"{model} has no score for {len(missing)} of {len(scored)} test rows (the first is row "
                f"{missing['row'][0]}): its scores are of another run's test rows.",
                f"{model}_scores",
                f"{model}.scores",
            )
        parts.append(scored.select("row", "user", "label", pl.lit(model).alias("model"), "score"))
    return pl.concat(parts)


def align_scores(scores: pl.DataFrame) -> PairedScores:
    """Bring the scores of all models to the same order of rows, or refuse them.

    Args:
        scores: one line per row and model: row, user (index), label (0 or 1), model, score (probability of a like).

    Raises:
        MismatchError: a column is missing.
        ValueError: a score is not a probability; a label is not 0 or 1; a row has no user; a model scored a row
            twice, or other rows, users or labels than the first model; fewer than two rows of a class, for which
            neither the AUC nor its variance is defined.

    Examples:
        >>> pair = align_scores(
        ...     pl.DataFrame(
        ...         {
        ...             "row": [1, 0, 2, 3, 0, 1, 2, 3],
        ...             "user": [7, 7, 9, 9, 7, 7, 9, 9],
        ...             "label": [0, 1, 1, 0, 1, 0, 1, 0],
        ...             "model": ["lens"] * 4 + ["reclora"] * 4,
        ...             "score": [0.1, 0.9, 0.8, 0.2, 0.7, 0.3, 0.6, 0.4],
        ...         }
        ...     )
        ... )
        >>> pair.models, pair.users
        (('lens', 'reclora'), array([7, 7, 9, 9]))
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
    rows, users, labels = (tables[reference][column].to_numpy() for column in ("row", "user", "label"))
    remedy = "Score more test rows, or check the label threshold of the ingestion step."
    require_both_classes(int(labels.sum()), len(labels), "scores", remedy, least=2)
    paired = np.stack([table["score"].to_numpy() for table in tables.values()])
    return PairedScores(tuple(tables), rows, users, labels == 1, paired)


def _check_values(scores: pl.DataFrame) -> None:
    if missing := [column for column in COLUMNS if column not in scores.columns]:
        raise MismatchError(f"scores: missing column(s) {missing}, found {scores.columns}.", "scores")
    if scores.is_empty():
        raise ValueError("scores: the table has no rows; expected at least two of each class.")
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
    bad = scores.filter(pl.col("user").is_null())
    if not bad.is_empty():
        raise ValueError(
            f"scores: {bad.height} row(s) have no user, the first of them row {bad['row'][0]}; expected the user's "
            "index in the log. Score the test rows again."
        )


def _check_unique_rows(tables: dict[str, pl.DataFrame]) -> None:
    for model, table in tables.items():
        repeated = table.filter(pl.col("row").is_duplicated())
        if not repeated.is_empty():
            raise ValueError(
                f"scores: model {model!r} has several scores for {repeated['row'].n_unique()} row(s), the first of "
                f"them row {repeated['row'][0]}; expected one score per row and model."
            )


def _check_same_rows(model: str, table: pl.DataFrame, reference: str, expected: pl.DataFrame) -> None:
    missing = expected.join(table, on="row", how="anti").height
    extra = table.join(expected, on="row", how="anti").height
    if missing or extra:
        raise ValueError(
            f"scores: model {model!r} was not scored on the rows of {reference!r}: {missing} row(s) are missing and "
            f"{extra} are extra. Score all models on the same test rows."
        )
    for column in ("user", "label"):
        disagreeing = table.filter(table[column] != expected[column])
        if not disagreeing.is_empty():
            raise ValueError(
                f"scores: models {model!r} and {reference!r} disagree on the {column} of {disagreeing.height} row(s), "
                f"the first of them row {disagreeing['row'][0]}. Score all models from the same samples."
            )
