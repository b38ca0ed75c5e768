"""What every lens promises, whatever its model."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from reclora_kedro.lens import LENSES
from reclora_kedro.lens.base import Behaviours, Lens, LensBatch, build_lens
from reclora_kedro.lens.config import STATE_KINDS, LensConfig, LensSizes
from reclora_kedro.lens.layers import TargetAttention, mean_pool

BATCH, LENGTH = 7, 6
SIZES = LensSizes(
    users=9,
    user_fields=("gender", "age"),
    user_width=1,
    user_values=5,
    items=20,
    item_fields=("genres",),
    item_width=3,
    item_values=4,
    rating_levels=5,
)


@pytest.fixture(params=sorted(LENSES))
def lens(request: pytest.FixtureRequest, config: LensConfig) -> Lens:
    torch.manual_seed(0)
    lens = build_lens(config.model_copy(update={"model": request.param}), SIZES)
    for entity, count, values in ((lens.user, SIZES.users, 5), (lens.item, SIZES.items, 4)):
        entity.id_codes.copy_(torch.arange(count))
        entity.field_codes.random_(0, values + 1)
    return lens.freeze()


@pytest.fixture
def batch() -> LensBatch:
    torch.manual_seed(1)
    return LensBatch(
        user=torch.randint(SIZES.users, (BATCH,)),
        item=torch.randint(SIZES.items, (BATCH,)),
        recent_history=random_behaviours(),
        long_history=random_behaviours(),
    )


def random_behaviours() -> Behaviours:
    lengths = torch.arange(BATCH).clamp(max=LENGTH)
    return Behaviours(
        item=torch.randint(SIZES.items, (BATCH, LENGTH)),
        rating=torch.randint(SIZES.rating_levels, (BATCH, LENGTH)),
        mask=torch.arange(LENGTH) < lengths[:, None],
    )


def map_histories(batch: LensBatch, change: Callable[[Behaviours], Behaviours]) -> LensBatch:
    return replace(batch, recent_history=change(batch.recent_history), long_history=change(batch.long_history))


def take(batch: LensBatch, rows: torch.Tensor) -> LensBatch:
    def take_behaviours(past: Behaviours) -> Behaviours:
        return Behaviours(past.item[rows], past.rating[rows], past.mask[rows])

    return replace(map_histories(batch, take_behaviours), user=batch.user[rows], item=batch.item[rows])


def test_shapes(lens: Lens, batch: LensBatch) -> None:
    assert lens(batch).shape == (BATCH,)
    for kind in STATE_KINDS:
        assert lens.states(batch, kind).shape == (BATCH, lens.state_dim(kind))


@pytest.mark.parametrize("model", sorted(LENSES))
def test_ratings_that_never_differ_are_not_embedded(config: LensConfig, batch: LensBatch, model: str) -> None:
    unrated = map_histories(batch, lambda past: replace(past, rating=torch.zeros_like(past.rating)))
    sizes = SIZES.model_copy(update={"rating_levels": 1})
    lens = build_lens(config.model_copy(update={"model": model}), sizes).freeze()
    assert lens(unrated).shape == (BATCH,)
    assert lens.embed_behaviours(unrated.recent_history).shape == (BATCH, LENGTH, lens.item.output_dim)
    assert lens.states(unrated, "user").shape == (BATCH, lens.state_dim("user"))


def test_output_layer_is_applied_to_the_target_state(lens: Lens, batch: LensBatch) -> None:
    assert torch.equal(lens.output(lens.states(batch, "target")).squeeze(-1), lens(batch))


def test_the_target_state_comes_from_the_fields_state_alone(lens: Lens, batch: LensBatch) -> None:
    assert torch.equal(lens.interact(lens.states(batch, "fields")), lens.states(batch, "target"))


def test_unknown_state_is_refused_by_name(lens: Lens, batch: LensBatch) -> None:
    with pytest.raises(ValueError, match=f"'{lens.config.model}' has no state 'item': choose one of target, user, f"):
        lens.states(batch, "item")
    with pytest.raises(ValueError, match="has no state 'item'"):
        lens.state_dim("item")


def test_a_model_without_a_user_state_refuses_it_by_name(config: LensConfig, batch: LensBatch) -> None:
    class OnlyItems(Lens):
        def __init__(self) -> None:
            super().__init__(config, SIZES)
            self.build_head(self.item.output_dim)

        def fields_state(self, batch: LensBatch) -> torch.Tensor:
            return self.item(batch.item)

    lens = OnlyItems().freeze()
    assert lens.state_kinds == ("target", "fields")
    assert lens(batch).shape == (BATCH,)
    with pytest.raises(ValueError, match=r"has no state 'user': choose one of target, fields, or another lens\.model"):
        lens.states(batch, "user")


def test_masked_behaviours_are_ignored_exactly(lens: Lens, batch: LensBatch) -> None:
    def scramble(past: Behaviours) -> Behaviours:
        return Behaviours(
            item=torch.where(past.mask, past.item, (past.item + 7) % SIZES.items),
            rating=torch.where(past.mask, past.rating, (past.rating + 1) % SIZES.rating_levels),
            mask=past.mask,
        )

    scrambled = map_histories(batch, scramble)
    assert not torch.equal(scrambled.recent_history.item, batch.recent_history.item)
    assert torch.equal(lens(scrambled), lens(batch))
    for kind in STATE_KINDS:
        assert torch.equal(lens.states(scrambled, kind), lens.states(batch, kind))


def test_padding_changes_no_score(lens: Lens, batch: LensBatch) -> None:
    def pad(past: Behaviours) -> Behaviours:
        zeros = torch.zeros(BATCH, 5, dtype=torch.long)
        return Behaviours(
            torch.cat([past.item, zeros], dim=1),
            torch.cat([past.rating, zeros], dim=1),
            torch.cat([past.mask, zeros.bool()], dim=1),
        )

    torch.testing.assert_close(lens(map_histories(batch, pad)), lens(batch), rtol=0, atol=1e-6)


def test_every_behaviour_counts(lens: Lens, batch: LensBatch) -> None:
    def change_the_first(past: Behaviours) -> Behaviours:
        rating = past.rating.clone()
        rating[:, 0] = (rating[:, 0] + 1) % SIZES.rating_levels
        return replace(past, rating=rating)

    changed = lens(map_histories(batch, change_the_first)) != lens(batch)
    assert changed.tolist() == batch.recent_history.mask[:, 0].tolist()


def test_permuting_a_batch_permutes_its_scores(lens: Lens, batch: LensBatch) -> None:
    order = torch.randperm(BATCH, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(lens(take(batch, order)), lens(batch)[order], rtol=0, atol=1e-6)


def test_rows_of_a_batch_do_not_influence_each_other(lens: Lens, batch: LensBatch) -> None:
    alone = torch.cat([lens(take(batch, torch.tensor([row]))) for row in range(BATCH)])
    torch.testing.assert_close(alone, lens(batch), rtol=0, atol=1e-6)


def test_user_state_is_free_of_the_target(lens: Lens, batch: LensBatch) -> None:
    # The long history may have been retrieved for the target, so it must not enter either.
    other = replace(batch, item=(batch.item + 1) % SIZES.items, long_history=random_behaviours())
    assert torch.equal(lens.states(other, "user"), lens.states(batch, "user"))
    assert not torch.equal(lens.states(other, "target"), lens.states(batch, "target"))


def test_empty_histories_give_finite_scores(lens: Lens, batch: LensBatch) -> None:
    empty = map_histories(batch, lambda past: replace(past, mask=torch.zeros_like(past.mask)))
    assert lens(empty).isfinite().all()


def test_frozen_lens_has_no_dropout_live_and_no_gradients(lens: Lens, batch: LensBatch) -> None:
    assert not lens.training
    assert torch.equal(lens(batch), lens(batch))
    assert not any(parameter.requires_grad for parameter in lens.parameters())
    assert not lens(batch).requires_grad


def test_dropout_is_live_while_training(lens: Lens, batch: LensBatch) -> None:
    lens.train()
    assert not torch.equal(lens(batch), lens(batch))


def test_one_item_has_one_embedding(lens: Lens, batch: LensBatch) -> None:
    of_items = [name for name, weight in lens.named_parameters() if weight.shape[0] == 1 + SIZES.items]
    assert of_items == ["item.ids.weight"]
    as_target = lens.item(batch.item)
    as_behaviour = lens.embed_behaviours(Behaviours(batch.item, batch.item * 0, batch.item > 0))
    assert torch.equal(as_target, as_behaviour[:, : as_target.shape[1]])


def test_unknown_ids_share_one_vector(lens: Lens) -> None:
    lens.user.id_codes[:2] = 0
    lens.user.field_codes[:2] = 1
    first, second = lens.user(torch.tensor([0, 1]))
    assert torch.equal(first, second)
    assert torch.equal(first[:8], lens.user.ids.weight[0])


def test_id_dropout_trains_the_unknown_user(lens: Lens, batch: LensBatch) -> None:
    lens.train().requires_grad_(True)
    known = replace(batch, user=torch.full((BATCH,), 5))
    for _ in range(5):
        lens(known).sum().backward()
    gradient = lens.user.ids.weight.grad
    assert gradient[0].abs().sum() > 0
    assert gradient[5].abs().sum() > 0
    assert gradient[[1, 2, 3, 4, 6]].abs().sum() == 0


def test_field_of_several_values_is_their_mean_and_no_value_is_zero(lens: Lens) -> None:
    lens.item.field_codes[0, 0] = torch.tensor([1, 3, 0])
    lens.item.field_codes[1, 0] = 0
    several, none = lens.item(torch.tensor([0, 1]))[:, 8:]
    torch.testing.assert_close(several, lens.item.values.weight[[1, 3]].mean(0))
    assert torch.equal(none, torch.zeros(8))


def test_mean_pool() -> None:
    behaviours = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [9.0, 9.0]]] * 2)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert mean_pool(behaviours, mask).tolist() == [[2.0, 4.0], [0.0, 0.0]]


def test_target_attention_against_its_equation() -> None:
    torch.manual_seed(0)
    attention = TargetAttention(target_dim=3, behaviour_dim=5, hidden_dim=4)
    target, behaviours = torch.randn(2, 3), torch.randn(2, 4, 5)
    mask = torch.tensor([[True, False, True, True], [False] * 4])
    with torch.no_grad():
        pooled = attention(target, behaviours, mask)
        weight = torch.cat(
            [attention.of_target.weight, attention.of_behaviour.weight, attention.of_product.weight], dim=1
        )
        inputs = torch.stack([torch.cat([target[0], b, target[0] * b[:3]]) for b in behaviours[0, mask[0]]])
        hidden = torch.relu(inputs @ weight.T + attention.of_target.bias)
        expected = torch.softmax(attention.score(hidden).squeeze(-1), dim=0) @ behaviours[0, mask[0]]
    torch.testing.assert_close(pooled[0], expected)
    assert torch.equal(pooled[1], torch.zeros(5))
