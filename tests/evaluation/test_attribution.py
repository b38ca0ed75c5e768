import numpy as np
import polars as pl
import pytest

from kedro_provenance.errors import MismatchError
from reclora_kedro.evaluation.attribution import attribute, permuted_rows
from reclora_kedro.evaluation.bootstrap import Bootstrap

ROWS = 400
BOOTSTRAP = Bootstrap(confidence=0.95, seed=0).model_copy(update={"samples": 300})


@pytest.fixture
def scores():
    """Two models on the same rows; the first knows the label."""
    random = np.random.default_rng(0)
    label = random.integers(0, 2, ROWS)
    table = pl.DataFrame({"row": np.arange(ROWS) + 7, "user": random.integers(0, 60, ROWS), "label": label})
    return pl.concat(
        table.with_columns(model=pl.lit(model), score=weight * label / 2 + random.random(ROWS) / 2)
        for model, weight in (("knowing", 1), ("guessing", 0))
    )


def permuted(scores, model, rows, others):
    own = scores.filter(pl.col("model") == model)
    return own[rows].select("row", "label", input=pl.lit("prompt"), score=own["score"].gather(others))


@pytest.mark.parametrize("limit", [None, 150])
def test_a_model_loses_what_it_reads(scores, limit):
    rows, others = permuted_rows(ROWS, limit, seed=1)
    tables = {model: permuted(scores, model, rows, others) for model in ("knowing", "guessing")}
    knowing, guessing = attribute(scores, BOOTSTRAP, **tables)
    assert (knowing["model"], knowing["input"], knowing["rows"]) == ("knowing", "prompt", limit or ROWS)
    assert knowing["auc"] == 1.0
    assert knowing["permuted_auc"] == pytest.approx(0.5, abs=0.12)
    assert knowing["fall"] == pytest.approx(knowing["auc"] - knowing["permuted_auc"])
    assert knowing["low"] > 0.3
    assert guessing["low"] < 0 < guessing["high"]


def test_an_input_that_changes_nothing_loses_nothing(scores):
    same = permuted(scores, "knowing", np.arange(ROWS), np.arange(ROWS))
    [record] = attribute(scores, BOOTSTRAP, knowing=same, guessing=same.clear())
    assert (record["fall"], record["low"], record["high"]) == (0, 0, 0)


def test_too_few_rows_to_permute_are_refused_by_the_setting_that_draws_them(scores):
    few = permuted(scores, "knowing", np.arange(2), np.array([1, 0]))
    with pytest.raises(ValueError, match=r"expected at least 2 of each, .* raise .*scoring\.permuted_rows"):
        attribute(scores, BOOTSTRAP, knowing=few)


def test_permuted_scores_of_other_runs_are_refused(scores):
    few = permuted(scores, "knowing", np.arange(9), np.arange(9))
    with pytest.raises(
        MismatchError, match=r"scores holds the models knowing, guessing, but permuted scores exist for other"
    ):
        attribute(scores, BOOTSTRAP, other=few)
    with pytest.raises(MismatchError, match=r"scores lack a row that knowing scored with a permuted input"):
        attribute(scores, BOOTSTRAP, knowing=few.with_columns(pl.col("row") + ROWS))


def test_every_row_gets_the_input_of_another_one_and_gives_its_own_once():
    rows, others = permuted_rows(50, None, seed=3)
    assert sorted(rows) == sorted(others) == list(range(50))
    assert (rows != others).all()
    again, _ = permuted_rows(50, 20, seed=3)
    assert again.tolist() == rows[:20].tolist()
