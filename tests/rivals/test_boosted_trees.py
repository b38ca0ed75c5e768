"""Trees that read the rating statistics alone."""

import pytest
from sklearn.metrics import roc_auc_score

from reclora_kedro.lens.training import fit_lens
from reclora_kedro.rivals.boosted_trees import scores


@pytest.mark.parametrize("delay", [0.0, 1e9])
def test_trees_rank_by_what_the_statistics_know(log, config, delay) -> None:
    lens, _ = fit_lens(log, config.model_copy(update={"statistics_delay": delay, "max_epochs": 1}))
    test = log.rows_in("test")
    table = scores(log, log.samples[test], lens)
    assert table["row"].to_list() == test.tolist()
    auc = roc_auc_score(log.samples["label"].to_numpy()[test], table["score"])
    assert auc == 0.5 if delay else auc > 0.9
