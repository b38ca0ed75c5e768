"""The lens interface: batches, the operations of every CTR model, saving and loading."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from reclora_kedro.history.co_occurrences import COMPONENTS
from reclora_kedro.history.rating_statistics import COLUMNS
from reclora_kedro.layers import distinct_indices, embedding_table
from reclora_kedro.lens import LENS_MODELS
from reclora_kedro.lens.config import FIELD, MOST_VALUES, STATE_KINDS, LensConfig, LensSizes
from reclora_kedro.lens.layers import (
    SIMILARITIES,
    EntityEmbedding,
    MeasuredNumbers,
    NumericFields,
    mean_pool,
    products,
    summarise,
)
from reclora_kedro.parameters import saved_settings
from reclora_kedro.saved_models import load_model, save_model


@dataclass(frozen=True, kw_only=True)
class History:
    """Earlier rated items of each sample, in time order, left-aligned; all of shape (batch, length).

    Samples may share one row of items and ratings; the mask then has one row too, or one per sample.
    """

    item: Tensor  # item indices; any valid index where there is no event
    rating: Tensor  # rating levels, see `Sequences`; any valid level where there is no event
    mask: Tensor  # true where there is an event
    # Of columns that the log declares for the lens, if any, in a last dimension.
    numbers: Tensor | None = None  # NaN where an event has none
    values: Tensor | None = None  # codes, 0 where an event has none, or one that was too rare in training

    def map(self, change: Callable[[Tensor], Tensor]) -> "History":
        """Return a history with a function of each tensor, such as a choice of rows."""
        return History(**{name: None if part is None else change(part) for name, part in vars(self).items()})

    def to(self, device: torch.device) -> "History":
        return self.map(lambda tensor: tensor.to(device))


@dataclass(frozen=True)
class LensBatch:
    """A batch of samples as indices; all other data on users and items are buffers of the lens.

    For a lens that reads no long history or no statistics, these are empty: no events, or width 0. Samples of one
    moment may share a single row of the user and of either history, which is then computed once.
    """

    user: Tensor  # user indices, shape (batch,), or (1,) where the samples share the user
    item: Tensor  # target item indices, shape (batch,)
    recent_history: History  # the user's last events before the sample, whatever the target is
    long_history: History  # the events of `lens.long_history`, chosen by the target where it retrieves
    statistics: Tensor  # what the log says of user and item at the moment, see `RatingStatistics`, shape (batch, 11)

    def to(self, device: torch.device) -> "LensBatch":
        return LensBatch(*(part.to(device) for part in vars(self).values()))


class Lens(nn.Module):
    """A CTR model on ids: fields (the user state and the target item among them), an MLP and an output layer.

    Models override `user_state`, `fields`, or `interact`, in which the fields meet. Their constructors end with
    `build_head`.
    """

    reads_long_history: ClassVar[bool] = False
    co_occurrences: Tensor
    user_folds: Tensor

    def __init__(self, config: LensConfig, sizes: LensSizes) -> None:
        super().__init__()
        self.config, self.sizes, dim = config, sizes, config.embedding_dim
        self.user = EntityEmbedding(sizes.of_users, dim, config.user_id_dropout)
        # One table for the target and the history: one item, one embedding.
        self.item = EntityEmbedding(sizes.of_items, dim, config.item_id_dropout, config.item_text_dropout)
        self.event_dim = self.item.output_dim
        if sizes.rating_levels > 1:  # a log of one level, such as one of purchases, has nothing to embed but the items
            self.rating = embedding_table(sizes.rating_levels, dim)
            self.event_dim += dim
        if sizes.event_numbers:
            self.event_numbers = MeasuredNumbers(len(sizes.event_numbers), dim)
        # A vector for each code, and one for all others.
        self.event_tables = nn.ModuleList(embedding_table(1 + len(codes), dim) for codes in sizes.event_values.values())
        self.columns_dim = dim * (len(sizes.event_numbers) + len(sizes.event_values))
        self.event_dim += self.columns_dim
        self.statistics = NumericFields(len(COLUMNS) if config.rating_statistics else 0, dim)
        if folds := config.co_occurrence_folds:
            self.register_buffer("co_occurrences", torch.zeros(folds, sizes.items, COMPONENTS))
            self.register_buffer("user_folds", torch.arange(sizes.users) % folds)
        histories, encoders = 1 + self.reads_long_history, len(sizes.item_text_widths) + (folds > 0)
        self.similarities = NumericFields(len(SIMILARITIES) * histories * encoders, dim)
        self.numeric_dim = self.statistics.output_dim + self.similarities.output_dim
        # Widths of the user state and the fields state as they are here, for `build_head`.
        self.user_dim = self.user.output_dim + self.event_dim
        self.fields_dim = self.user_dim + self.item.output_dim + self.numeric_dim

    def build_head(self, fields_dim: int, user_dim: int | None = None, interaction_dim: int = 0) -> None:
        """Add the MLP over the fields and the output layer.

        `user_dim` is the width of the user state, None for a model without one, and `interaction_dim` the width that
        `interact` adds to the last hidden layer.
        """
        hidden_dim, fields = self.config.hidden_dim, self.sizes.item_fields | self.sizes.user_fields
        widths = hidden_dim + interaction_dim, user_dim, fields_dim, len(COLUMNS) * self.config.rating_statistics
        # Widths of the states by kind.
        self.state_dims: dict[str, int] = {
            kind: width for kind, width in zip(STATE_KINDS, widths, strict=True) if width
        }
        self.state_dims |= {FIELD + name: len(of) for name, of in fields.items() if 0 < len(of) <= MOST_VALUES}
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise([fields_dim] + [hidden_dim] * self.config.hidden_layers):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True), nn.Dropout(self.config.dropout)]
        self.mlp = nn.Sequential(*layers)
        self.output = nn.Linear(hidden_dim + interaction_dim, 1)

    def user_state(self, batch: LensBatch) -> Tensor:
        """Return the user's fields and the mean of the recent history, whatever the target: (batch, user_dim)."""
        recent = self.embed_events(batch.recent_history)
        return torch.cat([self.user(batch.user), mean_pool(recent, batch.recent_history.mask)], dim=-1)

    def fields(self, batch: LensBatch) -> tuple[Tensor, ...]:
        """Return the vectors of the user state and the target item, each (batch, width) or (1, width)."""
        return self.user_state(batch), self.item(batch.item)

    def numeric_fields(self, batch: LensBatch) -> list[tuple[NumericFields, Tensor]]:
        """Return layers and numbers, (batch, count), of the rating statistics and the history cosines."""
        numbers = [(self.statistics, batch.statistics)]
        return [*numbers, (self.similarities, self.cosines(batch))] if self.similarities.output_dim else numbers

    def fields_state(self, batch: LensBatch) -> Tensor:
        """Concatenate the vectors of all fields, of which samples may share one of a row: (batch, fields_dim)."""
        parts = [*self.fields(batch), *(layer(numbers) for layer, numbers in self.numeric_fields(batch))]
        rows = max(map(len, parts))
        return torch.cat([part.expand(rows, -1) for part in parts], dim=-1)

    def cosines(self, batch: LensBatch) -> Tensor:
        """Return `SIMILARITIES` of the target and each history: for each text encoder, then for co-occurrences.

        Co-occurrence vectors are made of likes of users in other folds than the sample's. Vectors of different folds
        lie in different spaces, so that only their cosines are comparable. They are zero for a target whose id is
        hidden in training, and for an item without likes. The shape is (batch, 4 or a multiple).
        """
        recent, long = batch.recent_history, batch.long_history
        parts = self._cosines(batch, recent)
        if self.reads_long_history:
            parts += parts if long is recent else self._cosines(batch, long)
        return torch.cat(parts, dim=-1)

    def _cosines(self, batch: LensBatch, history: History) -> list[Tensor]:
        # One encoder after the other: all of their vectors of a batch's events may not fit in a cache.
        by_encoder = self.item.texts.split(self.sizes.item_text_widths, dim=1) if self.config.item_text else ()
        parts = [summarise(products(texts[history.item], texts[batch.item]), history.mask) for texts in by_encoder]
        if self.config.co_occurrence_folds:
            vectors, first = self.co_occurrences.flatten(0, 1), self.user_folds[batch.user] * self.sizes.items
            liked = products(vectors[first.unsqueeze(1) + history.item], vectors[first + batch.item])
            if self.training and self.item.hidden is not None:
                liked = liked.masked_fill(self.item.hidden[batch.item].unsqueeze(1), 0.0)
            parts.append(summarise(liked, history.mask))
        return parts

    def interact(self, fields: Tensor) -> Tensor:
        """Return the target state, which the output layer reads, from the fields state: (batch, state width)."""
        return self.mlp(fields)

    def embed_events(self, events: History) -> Tensor:
        """Return the vectors of items, of ratings if they differ, and of columns: (batch, length, event_dim)."""
        # Padding must not change the rounding of other events.
        mask = events.mask.unflatten(0, (len(events.item), -1)).any(dim=1)
        parts = [self.embed_items(events.item.masked_fill(~mask, 0))]
        if self.sizes.rating_levels > 1:
            parts.append(self.rating(events.rating))
        parts += self.embed_columns(events)
        return torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]

    def embed_columns(self, events: History) -> list[Tensor]:
        """Return the vectors of declared columns that the lens reads: together (batch, length, columns_dim)."""
        numbers = [] if events.numbers is None else [self.event_numbers(events.numbers)]
        codes = () if events.values is None else events.values.unbind(-1)
        return [*numbers, *(table(of_column) for table, of_column in zip(self.event_tables, codes, strict=True))]

    def embed_items(self, item: Tensor) -> Tensor:
        """Return the vectors of items by index, (…) to (…, item width); each distinct item is computed once."""
        if self.item.table is not None:
            return self.item(item)
        distinct, place = distinct_indices(item, self.sizes.items)
        return functional.embedding(place, self.item(distinct))

    def forward(self, batch: LensBatch) -> Tensor:
        """Return the logits of a like, shape (batch,)."""
        self.hide_items()
        if len(batch.user) < len(batch.item) and type(self).interact is Lens.interact:
            return self.output(self.mlp[1:](self._first_layer(batch))).squeeze(-1)
        return self.output(self.states(batch, "target")).squeeze(-1)

    def hide_items(self) -> None:
        """In training, draw the items whose ids and co-occurrences are hidden until the next draw."""
        if self.training and self.config.co_occurrence_folds:
            self.item.hidden = torch.rand(self.sizes.items, device=self.item.id_codes.device) < self.item.id_dropout

    def _first_layer(self, batch: LensBatch) -> Tensor:
        """Compute the MLP's first layer as a sum over fields, (batch, hidden_dim), multiplying shared fields once."""
        fields, numbers = self.fields(batch), self.numeric_fields(batch)
        widths = [field.shape[-1] for field in fields] + [layer.output_dim for layer, _ in numbers]
        weights = self.mlp[0].weight.split(widths, dim=1)
        parts = list(zip(fields, weights, strict=False))
        for (layer, values), weight in zip(numbers, weights[len(fields) :], strict=True):
            parts.append((layer.standardise(values), layer.fold(weight)))
        user_part = sum((functional.linear(part, weight) for part, weight in parts if len(part) == 1), self.mlp[0].bias)
        own, weights = zip(*(part for part in parts if len(part[0]) > 1), strict=True)
        return torch.addmm(user_part, torch.cat(own, dim=1), torch.cat(weights, dim=1).T)

    def states(self, batch: LensBatch, kind: str) -> Tensor:
        """Return the states of samples that drive the gates (RecLoRA, section 3.3): (batch, state_dims[kind]).

        Kind `target` is the input of the output layer, which is the last hidden layer of most models; `user`: the
        user's fields and history, the same for every target; `fields`: the fields' vectors; `rating_statistics`: those
        that the lens reads, standardised over the training samples; `field:<name>`: one indicator per value of this
        field of the user, or of the item if users have no such field. ValueError if the model has no such state.
        """
        if kind not in self.state_dims:
            kinds = ", ".join(self.state_dims)
            raise ValueError(
                f"the lens {self.config.model!r} has no state {kind!r}: choose one of {kinds}, or another lens.model"
            )
        if kind == "user":
            return self.user_state(batch)
        if kind == "rating_statistics":
            return self.statistics.standardise(batch.statistics)
        if kind.startswith(FIELD):
            return self._values_of_field(batch, kind.removeprefix(FIELD))
        fields = self.fields_state(batch)
        return fields if kind == "fields" else self.interact(fields)

    def _values_of_field(self, batch: LensBatch, name: str) -> Tensor:
        index, entity, fields = batch.item, self.item, self.sizes.item_fields
        if name in self.sizes.user_fields:
            index, entity, fields = batch.user.expand(len(batch.item)), self.user, self.sizes.user_fields
        place = list(fields).index(name)
        before = sum(len(values) for values in list(fields.values())[:place])
        codes = (entity.field_codes[index, place] - before).clamp(min=0)  # from 1; 0 for none
        return torch.zeros(len(index), 1 + len(fields[name]), device=index.device).scatter(1, codes, 1.0)[:, 1:]

    def freeze(self) -> Self:
        """Disable gradients and dropout for good."""
        return self.requires_grad_(False).eval()

    def save(self, folder: Path) -> None:
        save_model(self, folder, "lens", self.config, self.sizes)


def build_lens(config: LensConfig, sizes: LensSizes) -> Lens:
    """Build the lens `config.model` with fresh weights and empty code tables."""
    return LENS_MODELS.load_class(config.model, Lens)(config, sizes)


def require_lens(config: LensConfig) -> None:
    """Raise ValueError for settings with which the lens `config.model` cannot be built, whatever the log."""
    ones: dict[str, Any] = dict.fromkeys(("users", "user_width", "items", "item_width", "rating_levels"), 1)
    texts = (1,) if config.item_text else ()
    scales = {"rating_range": (0, 1), "trained_until": 0}
    build_lens(config, LensSizes(user_fields={}, item_fields={}, item_text_widths=texts, **ones | scales))


def load_lens(folder: Path) -> Lens:
    """Load the frozen lens that `Lens.save` wrote, equal to the last bit; ValueError as of `load_model`."""

    def build(config: Any, sizes: Any) -> Lens:
        return build_lens(saved_settings(LensConfig, config, "lens"), LensSizes(**sizes))

    return load_model(folder, "lens", "lens", build).freeze()
