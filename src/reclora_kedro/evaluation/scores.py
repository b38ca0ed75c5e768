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
    """Return the scores of all models on the test rows as one long table.

    Args:
        test_questions: row, user_index and label of the test rows.
        tables: by model, a table with row and score; rows outside the test are dropped.

    Returns:
        Frame with row, user (index in the log), label, model and score, models in the order given.

    Raises:
        MismatchError: a model has no score for a test row.
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

    Raises:
        MismatchError: it lacks some; `refusal` is formatted with their number and the first of them.
    """
    joined = rows.join(table, on=on, how="left", maintain_order="left")
    missing = joined.filter(pl.any_horizontal(pl.exclude(rows.columns).is_null()))["row"]
    if len(missing):
        number, first = f"{len(missing)} of {joined.height}", f"(the first is row {missing[0]})"
        raise MismatchError(refusal.format(number, first), *entries)
    return joined


def align_scores(scores: pl.DataFrame) -> PairedScores:
    """Align the scores of all models, as `collect_scores` returns them, on the same ascending rows.

    Raises:
        MismatchError: a column is missing.
        ValueError: a score is not a probability; a label is not 0 or 1; a row has no user; a model scored a row twice,
            or other rows, users or labels than the first model; or a class has fewer than two rows.
    """
    _check_values(scores)
    models = scores.partition_by("model", as_dict=True, maintain_order=True)
    tables = {str(model): table.sort("row") for (model,), table in models.items()}
    reference, *others = tables
    for model in others:
        _check_same_rows(model, tables[model], reference, tables[reference])
    rows, users, labels = (tables[reference][column].to_numpy() for column in ("row", "user", "label"))
    advice = "Score more test rows, or check ", Parameter("ingestion.label_threshold")
    require_both_classes(int(labels.sum()), len(labels), Table("scores"), advice, least=2)
    paired = np.stack([table["score"].to_numpy() for table in tables.values()])
    return PairedScores(tuple(tables), rows, users, labels == 1, paired)


def _check_values(scores: pl.DataFrame) -> None:
    if missing := [column for column in COLUMNS if column not in scores.columns]:
        raise MismatchError(f"scores: missing column(s) {missing}, found {scores.columns}.", "scores")
    if scores.is_empty():
        raise ValueError("scores: the table has no rows; expected at least two of each class.")
    checks = (
        (
            pl.col("score").is_between(0, 1),
            "{} score(s) are no probability, the first of them {score} of model {model!r} for row {row}; expected a "
            "number from 0 to 1. Check that model's training.",
        ),
        (
            pl.col("label").is_in([0, 1]),
            "{} label(s) are neither 0 nor 1, the first of them {label} for row {row}. Labels come from the ingestion "
            "step.",
        ),
        (
            pl.col("user").is_not_null(),
            "{} row(s) have no user, the first of them row {row}; expected the user's index in the log. Score the test "
            "rows again.",
        ),
        (
            pl.struct("model", "row").is_first_distinct(),
            "model {model!r} has several scores for {} row(s), the first of them row {row}; expected one score per row "
            "and model.",
        ),
    )
    for is_good, message in checks:
        bad = scores.filter(~is_good.fill_null(False))  # `is_between` is null for a null and False for NaN
        if not bad.is_empty():
            raise ValueError("scores: " + message.format(bad.height, **bad.row(0, named=True)))


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
