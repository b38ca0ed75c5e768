import numpy as np
import pytest
import torch

from reclora_kedro.adapters.reclora.stacking import Stacking


def test_until_it_is_fitted_both_logits_weigh_one_half():
    lens, llm = torch.tensor([1.0, -2.0]), torch.tensor([3.0, 0.0])
    assert Stacking()(lens, llm, torch.ones(2, 2)).tolist() == [2.0, -1.0]


def test_a_cold_item_listens_to_the_llm_and_a_warm_one_to_the_lens():
    generator = torch.Generator().manual_seed(0)
    lens, llm = torch.randn(2, 4000, generator=generator)
    count = torch.randn(4000, generator=generator)
    cold = count < 0
    truth = torch.where(cold, 3 * llm, 3 * lens)
    labels = (torch.rand(4000, generator=generator) < torch.sigmoid(truth)).long()
    counts = torch.stack([count, torch.zeros(4000)], dim=1)
    stacking = Stacking()
    stacking.fit(lens, llm, counts, labels)
    at = torch.tensor([[-1.5, 0.0], [1.5, 0.0]])
    by_llm = stacking(torch.zeros(2), torch.ones(2), at) - stacking(torch.zeros(2), torch.zeros(2), at)
    assert by_llm[0] > 2 * by_llm[1].clamp(min=0.2)
    scores = torch.sigmoid(stacking(lens, llm, counts))
    assert np.mean((scores > 0.5).numpy() == (labels == 1).numpy()) > 0.7


def test_without_counts_it_is_refused():
    with pytest.raises(ValueError, match=r"set lens\.rating_statistics to true"):
        Stacking()(torch.zeros(1), torch.zeros(1), None)
