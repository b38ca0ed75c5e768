import numpy as np
import pytest
from scipy.sparse import csr_array

from reclora_kedro.baselines import base


@pytest.mark.parametrize("likes_at_once", [1, 3, 100])
def test_blocks_of_likes_have_the_ndcg_of_all_together(likes_at_once, monkeypatch):
    rng = np.random.default_rng(0)
    scores = {name: rng.random((50, 40)) for name in ("one", "other")}
    target = rng.integers(0, 40, 50)
    seen = csr_array((rng.random((50, 40)) < 0.2) & (np.arange(40) != target[:, None]))
    monkeypatch.setattr(base, "SCORES_AT_ONCE", likes_at_once * 40)
    found = base.ndcg_of_settings(lambda rows: ((name, each[rows]) for name, each in scores.items()), seen, target)
    assert found == pytest.approx({name: base.ndcg_of_likes(each, seen, target) for name, each in scores.items()})
