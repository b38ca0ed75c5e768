"""Collection and alignment of the scores of several models on the same rows."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from kedro_provenance.errors import MismatchError, Parameter
from reclora_kedro.errors import Table, require_both_classes

COLUMNS = ("row", "user", "label", "model", "score")


@dataclass(frozen=True)
class PairedScores:
    """Scores of M models on the same n rows."""

    models: tuple[str, ...]  # names, in order of first appearance in the scores
    rows: npt.NDArray[np.integer]  # row number of each sample, ascending, shape (n,)
    users: npt.NDArray[np.integer]  # user index of each row, shape (n,)
    labels: npt.NDArray[np.bool_]  # True for a like, shape (n,)
    scores: npt.NDArray[np.float64]  # probabilities of a like, shape (M, n)


def collect_scores(test_questions: pl.DataFrame, **tables: pl.DataFrame) -> pl.DataFrame:
    """Return the scores of all models on the test rows as one long table: row, user, label, model and score.

    `tables` have row and score by model; rows outside the test are dropped. MismatchError is raised for a missing one.
    """
    test_rows, parts = test_questions.select("row", "label", user="user_index"), []
    for model, table in tables.items():
        refusal = f"{model} has no score for {{}} test rows {{}}: its scores are of another run's test rows."
        scored = table.select("row", "score")
        scored = join_all(test_rows, scored, ["row"], refusal, f"{model}_scores", f"{model}.scores")
        parts.append(scored.select("row", "user", "label", pl.lit(model).alias("model"), "score"))
    return pl.concat(parts)


def join_all(rows: pl.DataFrame, table: pl.DataFrame, on: list[str], refusal: str, *entries: str) -> pl.DataFrame:
    """Left-join a table that must hold every row, keeping the order of the rows.

    MismatchError has the text `refusal`, formatted with the number of missing rows and the first of them.
    """
    joined = rows.join(table, on=on, how="left", maintain_order="left")
    missing = joined.filter(pl.any_horizontal(pl.exclude(rows.columns).is_null()))["row"]
    if len(missing):
        number, first = f"{len(missing)} of {joined.height}", f"(the first is row {missing[0]})"
        raise MismatchError(refusal.format(number, first), *entries)
    return joined


def align_scores(scores: pl.DataFrame) -> PairedScores:
    """Align the scores of all models, as `collect_scores` returns them, on the same ascending rows.

    MismatchError is raised for a missing column; ValueError if there are no rows, a score is not a probability, a model
    scored a row twice, models scored other rows, users or labels, or a class has fewer than two rows.
    """
    if missing := [column for column in COLUMNS if column not in scores.columns]:
        raise MismatchError(f"scores: missing column(s) {missing}, found {scores.columns}.", "scores")
    if scores.is_empty():
        raise ValueError("scores: the table has no rows; expected at least two of each class.")
    bad = scores.filter(~pl.col("score").is_between(0, 1).fill_null(False))  # null for a null, and False for NaN
    for first in bad.head(1).to_dicts():
        raise ValueError(
            f"scores: {bad.height} score(s) are not probabilities, the first of them {first['score']} of model "
            f"{first['model']!r} for row {first['row']}; expected a number from 0 to 1. Check that model's training."
        )
    models = scores["model"].unique(maintain_order=True).to_list()
    table = scores.group_by("row", "user", "label", maintain_order=True).agg("model", "score").sort("row")
    odd = table.filter(pl.col("model") != pl.lit(models, pl.List(pl.String)))
    for first in odd.head(1).to_dicts():
        raise ValueError(
            f"scores: {odd.height} row(s) do not have one score of each model, the first of them row {first['row']} of "
            f"user {first['user']} with label {first['label']}: it has those of {first['model']}, but expected those "
            f"of {models}. Score all models on the same test rows."
        )
    rows, users, labels = (table[column].to_numpy() for column in ("row", "user", "label"))
    advice = "Score more test rows, or check ", Parameter("ingestion.label_threshold")
    require_both_classes(int(labels.sum()), len(labels), Table("scores"), advice, least=2)
    paired = np.array(table["score"].to_list()).T
    return PairedScores(tuple(models), rows, users, labels == 1, np.ascontiguousarray(paired))
