import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from reclora_kedro.baselines.statistics_probe import scores


@pytest.mark.parametrize("fitted", ["din"], indirect=True)
def test_a_few_rows_teach_what_the_statistics_tell_of_the_whole_test_split(fitted, log):
    few_shot, test = log.samples[log.rows_in("train")[::4]], log.samples.filter(split="test")
    learning = pl.concat(
        [
            few_shot.with_columns(use=pl.lit("few_shot")),
            test.with_columns(use=pl.lit("validation"), label=1 - pl.col("label")),
        ]
    )
    scored = scores(learning, log, fitted[0])
    assert scored["row"].to_list() == test["row"].to_list()
    assert roc_auc_score(test["label"], scored["score"]) > 0.9
