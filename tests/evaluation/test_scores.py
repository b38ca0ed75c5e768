import polars as pl
import pytest

from kedro_provenance.errors import MismatchError
from reclora_kedro.evaluation.scores import align_scores, collect_scores

ROWS, LABELS = [0, 1, 2, 3], [1, 0, 1, 0]


def table(model: str, rows: list[int] = ROWS, labels: list[int] = LABELS, score: float | None = 0.5) -> pl.DataFrame:
    return pl.DataFrame(
        {"row": rows, "label": labels, "model": [model] * len(rows), "score": [score] * len(rows)}
    ).select("row", pl.col("row").add(6).alias("user"), "label", "model", "score")


def test_rows_are_aligned_and_models_keep_their_order():
    lens = table("lens").with_columns(score=pl.Series([0.1, 0.2, 0.3, 0.4]))
    scores = pl.concat([table("reclora"), lens.reverse()])
    paired = align_scores(scores)
    assert paired.models == ("reclora", "lens")
    assert paired.scores[1].tolist() == [0.1, 0.2, 0.3, 0.4]
    assert paired.labels.tolist() == [True, False, True, False]
    assert (paired.rows.tolist(), paired.users.tolist()) == ([0, 1, 2, 3], [6, 7, 8, 9])


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (table("lens").drop("score"), r"missing column\(s\) \['score'\], found \['row', 'user', 'label', 'model'\]"),
        (table("lens").clear(), "no rows"),
        (
            table("lens", score=1.5),
            r"4 score\(s\) are not probabilities, the first of them 1.5 of model 'lens' for row 0",
        ),
        (table("lens", score=-0.1), "not probabilities"),
        (table("lens", score=float("nan")), "not probabilities, the first of them nan"),
        (table("lens").with_columns(score=pl.lit(None, pl.Float64)), "not probabilities, the first of them None"),
        (
            table("lens", rows=[0, 1, 1, 3], labels=[1, 0, 0, 1]),
            r"1 row\(s\) do not have one score of each model, the first of them row 1 of user 7 with label 0: it has "
            r"those of \['lens', 'lens'\], but expected those of \['lens'\]",
        ),
        (
            pl.concat([table("lens"), table("reclora", rows=[0, 1, 7], labels=[1, 0, 1])]),
            r"3 row\(s\) .* row 2 of user 8 with label 1: it has those of \['lens'\], but expected those of "
            r"\['lens', 'reclora'\]",
        ),
        (
            pl.concat([table("lens"), table("reclora", labels=[1, 0, 0, 0])]),
            r"2 row\(s\) .* row 2 of user 8 with label \d: ",
        ),
        (
            pl.concat([table("lens"), table("reclora").with_columns(user=pl.lit(6, pl.Int64))]),
            r"6 row\(s\) .* row 1 of user \d with label 0: it has those of \['(lens|reclora)'\]",
        ),
        (
            table("lens", labels=[1, 1, 1, 1]),
            r"scores has 4 of 4 rows that are liked \(label 1\): expected at least 2 liked and 2 disliked\. Score",
        ),
        (table("lens", labels=[1, 0, 0, 0]), "1 of 4 rows that are liked .* expected at least 2 liked and 2 disliked"),
    ],
)
def test_unusable_scores_are_refused(scores: pl.DataFrame, message: str):
    with pytest.raises(ValueError, match=message):
        align_scores(scores)


def test_scores_without_users_are_to_be_made_again():
    with pytest.raises(MismatchError, match=r"missing column\(s\) \['user'\]") as refusal:
        align_scores(table("lens").drop("user"))
    assert refusal.value.entries == ("scores",)


QUESTIONS = pl.DataFrame({"row": [5, 2, 9], "use": ["test"] * 3, "label": [1, 0, 1], "user_index": [4, 6, 7]})


def test_scores_are_collected_model_by_model_in_the_order_of_the_test_rows():
    lens = pl.DataFrame({"row": [1, 2, 5, 9], "score": [0.1, 0.2, 0.5, 0.9]})
    reclora = pl.DataFrame({"row": [9, 5, 2], "label": [0, 0, 0], "score": [0.8, 0.4, 0.3]})
    assert collect_scores(QUESTIONS, reclora=reclora, lens=lens).rows() == [
        (5, 4, 1, "reclora", 0.4),
        (2, 6, 0, "reclora", 0.3),
        (9, 7, 1, "reclora", 0.8),
        (5, 4, 1, "lens", 0.5),
        (2, 6, 0, "lens", 0.2),
        (9, 7, 1, "lens", 0.9),
    ]


def test_a_model_that_did_not_score_every_test_row_is_refused():
    scored = pl.DataFrame({"row": [2, 5, 9], "score": [0.2, 0.5, 0.9]})
    tables = {"lens": scored, "reclora": scored.filter(pl.col("row") == 2)}
    message = r"reclora has no score for 2 of 3 test rows \(the first is row 5\): .* another run's"
    with pytest.raises(MismatchError, match=message) as refusal:
        collect_scores(QUESTIONS, **tables)
    assert "reclora.scores" in refusal.value.entries
