"""What every lens promises, whatever its model."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch.nn import functional

from reclora_kedro.history.rating_statistics import COLUMNS
from reclora_kedro.lens import LENS_MODELS
from reclora_kedro.lens.base import History, Lens, LensBatch, build_lens, require_lens
from reclora_kedro.lens.config import STATE_KINDS, LensConfig, LensSizes
from reclora_kedro.lens.layers import SIMILARITIES, UNKNOWN_ID

BATCH, LENGTH = 7, 6
SIZES = LensSizes(
    users=9,
    user_fields={"gender": ("F", "M"), "age": ("1", "2", "3")},
    user_width=1,
    items=20,
    item_fields={"genres": ("a", "b", "c", "d")},
    item_width=3,
    item_text_widths=(2, 4),
    rating_levels=5,
    rating_range=(1, 5),
    trained_until=9,
)


@pytest.fixture(params=LENS_MODELS.modules())
def lens(request: pytest.FixtureRequest, config: LensConfig) -> Lens:
    torch.manual_seed(0)
    lens = build_lens(config.model_copy(update={"model": request.param}), SIZES)
    for entity, count, values in ((lens.user, SIZES.users, 5), (lens.item, SIZES.items, 4)):
        entity.id_codes.copy_(torch.arange(count))
        entity.field_codes.random_(0, values + 1)
    lens.item.texts.copy_(functional.normalize(torch.randn(SIZES.items, SIZES.of_items.text_width), dim=1))
    lens.co_occurrences.copy_(functional.normalize(torch.randn(lens.co_occurrences.shape), dim=2))
    return lens.freeze()


@pytest.fixture
def batch() -> LensBatch:
    torch.manual_seed(1)
    return LensBatch(
        user=torch.randint(SIZES.users, (BATCH,)),
        item=torch.randint(SIZES.items, (BATCH,)),
        recent_history=random_history(),
        long_history=random_history(),
        statistics=torch.randn(BATCH, len(COLUMNS)),
    )


def random_history() -> History:
    lengths = torch.arange(BATCH).clamp(max=LENGTH)
    return History(
        item=torch.randint(SIZES.items, (BATCH, LENGTH)),
        rating=torch.randint(SIZES.rating_levels, (BATCH, LENGTH)),
        mask=torch.arange(LENGTH) < lengths[:, None],
    )


def map_histories(batch: LensBatch, change: Callable[[History], History]) -> LensBatch:
    return replace(batch, recent_history=change(batch.recent_history), long_history=change(batch.long_history))


def take(batch: LensBatch, rows: torch.Tensor) -> LensBatch:
    def take_history(past: History) -> History:
        return past.map(lambda part: part[rows])

    taken = {name: getattr(batch, name)[rows] for name in ("user", "item", "statistics")}
    return replace(map_histories(batch, take_history), **taken)


def test_shapes(lens: Lens, batch: LensBatch) -> None:
    assert lens(batch).shape == (BATCH,)
    for kind in STATE_KINDS:
        assert lens.states(batch, kind).shape == (BATCH, lens.state_dims[kind])


@pytest.mark.parametrize("model", LENS_MODELS.modules())
def test_ratings_that_never_differ_are_not_embedded(config: LensConfig, batch: LensBatch, model: str) -> None:
    unrated = map_histories(batch, lambda past: replace(past, rating=torch.zeros_like(past.rating)))
    sizes = SIZES.model_copy(update={"rating_levels": 1})
    lens = build_lens(config.model_copy(update={"model": model}), sizes).freeze()
    assert lens(unrated).shape == (BATCH,)
    assert lens.embed_events(unrated.recent_history).shape == (BATCH, LENGTH, lens.item.output_dim)
    assert lens.states(unrated, "user").shape == (BATCH, lens.state_dims["user"])


def test_output_layer_is_applied_to_the_target_state(lens: Lens, batch: LensBatch) -> None:
    assert torch.equal(lens.output(lens.states(batch, "target")).squeeze(-1), lens(batch))


def test_the_target_state_comes_from_the_fields_state_alone(lens: Lens, batch: LensBatch) -> None:
    assert torch.equal(lens.interact(lens.states(batch, "fields")), lens.states(batch, "target"))


def test_unknown_state_is_refused_by_name(lens: Lens, batch: LensBatch) -> None:
    with pytest.raises(ValueError, match=f"'{lens.config.model}' has no state 'item': choose one of target, user, f"):
        lens.states(batch, "item")


def test_a_model_without_a_user_state_refuses_it_by_name(config: LensConfig, batch: LensBatch) -> None:
    class OnlyItems(Lens):
        def __init__(self) -> None:
            super().__init__(config, SIZES)
            self.build_head(self.item.output_dim)

        def fields_state(self, batch: LensBatch) -> torch.Tensor:
            return self.item(batch.item)

    lens = OnlyItems().freeze()
    assert [*lens.state_dims][:3] == ["target", "fields", "rating_statistics"]
    assert lens(batch).shape == (BATCH,)
    with pytest.raises(ValueError, match=r"has no state 'user': choose one of target, fields, rating_statistics, f"):
        lens.states(batch, "user")


def test_masked_events_are_ignored_exactly(lens: Lens, batch: LensBatch) -> None:
    def scramble(past: History) -> History:
        return History(
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
    def pad(past: History) -> History:
        return past.map(lambda part: torch.nn.functional.pad(part, (0, 5)))

    torch.testing.assert_close(lens(map_histories(batch, pad)), lens(batch), rtol=0, atol=1e-6)


def test_every_event_counts(lens: Lens, batch: LensBatch) -> None:
    def change_the_first(past: History) -> History:
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
    other = replace(batch, item=(batch.item + 1) % SIZES.items, long_history=random_history())
    assert torch.equal(lens.states(other, "user"), lens.states(batch, "user"))
    assert not torch.equal(lens.states(other, "target"), lens.states(batch, "target"))


def test_an_unknown_item_is_told_by_its_text(lens: Lens, batch: LensBatch) -> None:
    lens.item.id_codes.fill_(UNKNOWN_ID)
    lens.item.field_codes.fill_(0)
    lens.co_occurrences.fill_(0)
    before = lens(batch)
    lens.item.texts.copy_(lens.item.texts.roll(1, dims=0))
    assert (lens(batch) != before).all()
    lens.item.texts.copy_(lens.item.texts[0].expand_as(lens.item.texts))
    same = replace(batch, item=(batch.item + 5) % SIZES.items)
    torch.testing.assert_close(lens(same), lens(batch), rtol=0, atol=1e-6)


def test_similarities_are_the_products_of_target_and_history_by_encoder_in_four_numbers(
    lens: Lens, batch: LensBatch
) -> None:
    histories = [batch.recent_history, batch.long_history] if lens.reads_long_history else [batch.recent_history]
    found = lens.cosines(batch)
    assert found.shape == (BATCH, len(SIMILARITIES) * len(histories) * 3)
    for row, user in enumerate(batch.user.tolist()):
        expected, encoders = [], (*lens.item.texts.split([2, 4], dim=1), lens.co_occurrences[user % 3])
        for past, vectors in product(histories, encoders):
            cosines = [float(vectors[batch.item[row]] @ vectors[item]) for item in past.item[row, past.mask[row]]]
            top = sorted(cosines, reverse=True)[:3]
            means = [sum(part) / len(part) for part in (cosines, top, cosines[-5:]) if cosines]
            summary = [top[0], *means] if cosines else [0.0] * 4
            expected += summary
        torch.testing.assert_close(found[row], torch.tensor(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("model", [model for model in LENS_MODELS.modules() if model != "text_transformer"])
def test_a_lens_without_texts_has_no_trace_of_them(config: LensConfig, batch: LensBatch, model: str) -> None:
    without = config.model_copy(update={"model": model, "item_text": False, "co_occurrence_folds": 0})
    lens = build_lens(without, SIZES.model_copy(update={"item_text_widths": ()})).freeze()
    assert not [name for name in lens.state_dict() if "text" in name or "co_occurrences" in name]
    assert lens.similarities.output_dim == 0
    assert lens(batch).shape == (BATCH,)
    assert lens.states(batch, "fields").shape == (BATCH, lens.state_dims["fields"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": "text_transformer", "item_text": False},
            r"text_transformer only reads texts of items: set lens\.item_text to true",
        ),
        ({"model": "autoint", "embedding_dim": 9}, r"lens\.embedding_dim is 9, .* to a multiple of 2"),
    ],
)
def test_what_no_lens_can_be_built_with_is_refused_without_a_log(config: LensConfig, changes, message) -> None:
    require_lens(config.model_copy(update=changes | {"item_text": True, "embedding_dim": 8}))
    with pytest.raises(ValueError, match=message):
        require_lens(config.model_copy(update=changes))


def test_a_text_transformer_reads_no_item_ids(config: LensConfig, batch: LensBatch) -> None:
    lens = build_lens(config.model_copy(update={"model": "text_transformer"}), SIZES).freeze()
    before = lens(batch)
    lens.item.id_codes.copy_(torch.arange(SIZES.items).flip(0))
    assert torch.equal(lens(batch), before)


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
    as_event = lens.embed_events(History(item=batch.item, rating=batch.item * 0, mask=batch.item > 0))
    torch.testing.assert_close(as_target, as_event[:, : as_target.shape[1]])


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
    several, none = lens.item(torch.tensor([0, 1]))[:, 8:16]
    torch.testing.assert_close(several, lens.item.values.weight[[1, 3]].mean(0))
    assert torch.equal(none, torch.zeros(8))


def test_the_values_of_a_field_are_told_apart(config: LensConfig, batch: LensBatch) -> None:
    fields = {"age": ("old", "young"), "both": ("x",)}, {"genres": ("Crime", "Drama", "War"), "both": ("y", "z")}
    user_fields, item_fields = fields
    sizes = {"user_fields": user_fields, "user_width": 1, "item_fields": item_fields, "item_width": 2}
    lens = build_lens(config, SIZES.model_copy(update=sizes)).freeze()
    assert [*lens.state_dims][-3:] == ["field:genres", "field:both", "field:age"]
    lens.user.field_codes[:, 0, 0] = torch.arange(SIZES.users) % 3
    lens.user.field_codes[:, 1, 0] = 3  # users' fields come before items' of the same name
    lens.item.field_codes[:, 0] = torch.tensor([1, 3])
    lens.item.field_codes[:, 1, 0] = 5
    expected = torch.cat([torch.zeros(1, 2), torch.eye(2)])[batch.user % 3]
    assert torch.equal(lens.states(batch, "field:age"), expected)
    assert torch.equal(lens.states(batch, "field:genres"), torch.tensor([1.0, 0, 1]).expand(BATCH, 3))
    assert torch.equal(lens.states(batch, "field:both"), torch.ones(BATCH, 1))
    assert [*lens.state_dims.values()][-3:] == [3, 1, 2]
