import polars as pl
import pytest

from reclora_kedro.evaluation.paired_scores import align_scores

ROWS, LABELS = [0, 1, 2, 3], [1, 0, 1, 0]


def table(model: str, rows: list[int] = ROWS, labels: list[int] = LABELS, score: float | None = 0.5) -> pl.DataFrame:
    return pl.DataFrame({"row": rows, "label": labels, "model": [model] * len(rows), "score": [score] * len(rows)})


def test_rows_are_aligned_and_models_keep_their_order():
    lens = table("lens").with_columns(score=pl.Series([0.1, 0.2, 0.3, 0.4]))
    scores = pl.concat([table("reclora"), lens.reverse()])
    paired = align_scores(scores)
    assert paired.models == ("reclora", "lens")
    assert paired.scores[1].tolist() == [0.1, 0.2, 0.3, 0.4]
    assert paired.labels.tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (table("lens").drop("score"), r"missing column\(s\) \['score'\], found \['row', 'label', 'model'\]"),
        (table("lens").clear(), "no rows"),
        (table("lens", score=1.5), r"4 score\(s\) are no probability, the first of them 1.5 of model 'lens' for row 0"),
        (table("lens", score=-0.1), "no probability"),
        (table("lens", score=float("nan")), "no probability, the first of them nan"),
        (table("lens").with_columns(score=pl.lit(None, pl.Float64)), "no probability, the first of them None"),
        (table("lens", labels=[1, 0, 2, 0]), r"1 label\(s\) are neither 0 nor 1, the first of them 2 for row 2"),
        (table("lens", rows=[0, 1, 1, 3]), r"model 'lens' has several scores for 1 row\(s\), the first of them row 1"),
        (
            pl.concat([table("lens"), table("reclora", rows=[0, 1, 7], labels=[1, 0, 1])]),
            r"model 'reclora' was not scored on the rows of 'lens': 2 row\(s\) are missing and 1 are extra",
        ),
        (
            pl.concat([table("lens"), table("reclora", labels=[1, 0, 0, 0])]),
            r"'reclora' and 'lens' disagree on the label of 1 row\(s\), the first of them row 2",
        ),
        (table("lens", labels=[1, 1, 1, 1]), r"4 row\(s\) have label 1 and 0 have label 0"),
        (table("lens", labels=[1, 0, 0, 0]), "need at least two of each"),
    ],
)
def test_unusable_scores_are_refused(scores: pl.DataFrame, message: str):
    with pytest.raises(ValueError, match=message):
        align_scores(scores)
