"""Layers that lenses share."""

import torch

from reclora_kedro.layers import last_event
from reclora_kedro.lens.layers import NumericFields, TargetAttention, mean_pool

EVENTS = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [9.0, 9.0]]] * 2)
MASK = torch.tensor([[True, True, False], [False, False, False]])


def test_mean_pool() -> None:
    assert mean_pool(EVENTS, MASK).tolist() == [[2.0, 4.0], [0.0, 0.0]]


def test_numeric_fields_are_standardised_numbers_times_vectors() -> None:
    fields = NumericFields(count=2, embedding_dim=3)
    numbers = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    fields.fit(numbers)
    assert torch.equal(fields.standardise(numbers), torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
    with torch.no_grad():
        assert torch.equal(fields(numbers)[1], torch.cat([fields.vectors.weight[0], torch.zeros(3)]))


def test_last_event() -> None:
    assert last_event(EVENTS, MASK).tolist() == [[3.0, 6.0], [0.0, 0.0]]


def test_target_attention_against_its_equation() -> None:
    torch.manual_seed(0)
    attention = TargetAttention(target_dim=3, event_dim=5, hidden_dim=4)
    target, events = torch.randn(2, 3), torch.randn(2, 4, 5)
    mask = torch.tensor([[True, False, True, True], [False] * 4])
    with torch.no_grad():
        pooled = attention(target, events, mask)
        weight = torch.cat([attention.of_target.weight, attention.of_event.weight, attention.of_product.weight], dim=1)
        inputs = torch.stack([torch.cat([target[0], b, target[0] * b[:3]]) for b in events[0, mask[0]]])
        hidden = torch.relu(inputs @ weight.T + attention.of_target.bias)
        expected = torch.softmax(attention.score(hidden).squeeze(-1), dim=0) @ events[0, mask[0]]
    torch.testing.assert_close(pooled[0], expected)
    assert torch.equal(pooled[1], torch.zeros(5))
