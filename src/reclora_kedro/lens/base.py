"""The lens interface: what a batch holds, what every CTR model offers, how a saved one comes back."""

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor, nn

from reclora_kedro.lens import LENSES
from reclora_kedro.lens.config import STATE_KINDS, LensConfig, LensSizes, StateKind
from reclora_kedro.lens.layers import EntityEmbedding, embedding_table


@dataclass(frozen=True)
class Behaviours:
    """Earlier rated items of each sample, in time order, left-aligned; all of shape (batch, length).

    Attributes:
        item: item indices; any valid index where there is no behaviour.
        rating: rating levels (dense ranks of the ratings of the log); any valid level where there is none.
        mask: true where there is a behaviour.
    """

    item: Tensor
    rating: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> "Behaviours":
        """The same behaviours on another device."""
        return Behaviours(self.item.to(device), self.rating.to(device), self.mask.to(device))


@dataclass(frozen=True)
class LensBatch:
    """A batch of samples as indices alone; everything else about users and items stands in the lens.

    Attributes:
        user: user indices, shape (batch,).
        item: target item indices, shape (batch,).
        recent_history: the user's last behaviours before the sample, whatever the target is.
        long_history: the behaviours that the history step chose, by the target where it retrieves.
    """

    user: Tensor
    item: Tensor
    recent_history: Behaviours
    long_history: Behaviours

    def to(self, device: torch.device) -> "LensBatch":
        """The same batch on another device."""
        return LensBatch(
            self.user.to(device),
            self.item.to(device),
            self.recent_history.to(device),
            self.long_history.to(device),
        )


class Lens(nn.Module, ABC):
    """A CTR model on ids. A model says what enters its MLP and what its user state is; the rest is shared.

    A model's constructor ends with `build_head`.

    Args:
        config: settings of the lens.
        sizes: sizes of the tables that it embeds.
    """

    def __init__(self, config: LensConfig, sizes: LensSizes) -> None:
        super().__init__()
        self.config = config
        self.sizes = sizes
        dim = config.embedding_dim
        self.user = EntityEmbedding(
            sizes.users, len(sizes.user_fields), sizes.user_width, sizes.user_values, dim, config.user_id_dropout
        )
        # One table for the target and the history: one item, one embedding.
        self.item = EntityEmbedding(
            sizes.items, len(sizes.item_fields), sizes.item_width, sizes.item_values, dim, config.item_id_dropout
        )
        self.rating = embedding_table(sizes.rating_levels, dim)
        self.behaviour_dim = self.item.output_dim + dim

    def build_head(self, user_dim: int, fields_dim: int) -> None:
        """Adds the MLP over the fields and the output layer.

        Args:
            user_dim: width of the user state.
            fields_dim: width of the fields state.
        """
        hidden_dim = self.config.hidden_dim
        self._state_dims = {"target": hidden_dim, "user": user_dim, "fields": fields_dim}
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise([fields_dim] + [hidden_dim] * self.config.hidden_layers):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(self.config.dropout)]
        self.mlp = nn.Sequential(*layers)
        self.output = nn.Linear(hidden_dim, 1)

    @abstractmethod
    def user_state(self, batch: LensBatch) -> Tensor:
        """The user's fields and pooled recent history, the same for every target: (batch, user_dim)."""

    @abstractmethod
    def fields_state(self, batch: LensBatch) -> Tensor:
        """Everything that enters the MLP, concatenated: (batch, fields_dim)."""

    def embed_behaviours(self, behaviours: Behaviours) -> Tensor:
        """The item's vectors, then the rating's: (batch, length, behaviour_dim)."""
        return torch.cat([self.item(behaviours.item), self.rating(behaviours.rating)], dim=-1)

    def forward(self, batch: LensBatch) -> Tensor:
        """Logits of a like, shape (batch,)."""
        return self.output(self.states(batch, "target")).squeeze(-1)

    def states(self, batch: LensBatch, kind: StateKind) -> Tensor:
        """States of the samples that drive the gates (RecLoRA, section 3.3): (batch, state_dim(kind)).

        Args:
            batch: the samples.
            kind: `target`: the last hidden layer, exactly what the output layer is applied to; `user`: the
                user's fields and pooled recent history, the same for every target; `fields`: what enters the MLP.

        Raises:
            ValueError: there is no such kind.
        """
        _require_known(kind)
        if kind == "user":
            return self.user_state(batch)
        fields = self.fields_state(batch)
        return fields if kind == "fields" else self.mlp(fields)

    def state_dim(self, kind: StateKind) -> int:
        """Width of the states of a kind.

        Raises:
            ValueError: there is no such kind.
        """
        _require_known(kind)
        return self._state_dims[kind]

    def freeze(self) -> Self:
        """Ends training for good: no gradients, and no live dropout."""
        return self.requires_grad_(False).eval()


def _require_known(kind: str) -> None:
    if kind not in STATE_KINDS:
        raise ValueError(f"lens state {kind!r} is unknown: choose one of {', '.join(STATE_KINDS)}")


def build_lens(config: LensConfig, sizes: LensSizes) -> Lens:
    """The lens `config.model` with fresh weights and empty code tables."""
    return pkgutil.resolve_name(LENSES[config.model])(config, sizes)


def dump_lens(lens: Lens) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `load_lens` needs to bring the lens back: a JSON-ready config, and its tensors by name."""
    config = {"lens": lens.config.model_dump(mode="json"), "sizes": lens.sizes.model_dump(mode="json")}
    return config, lens.state_dict()


def load_lens(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Lens:
    """The frozen lens that `dump_lens` wrote down; its scores are the same to the last bit.

    Raises:
        RuntimeError: the weights are those of another lens; names every missing, surplus and misshapen tensor.
    """
    lens = build_lens(LensConfig(**config["lens"]), LensSizes(**config["sizes"]))
    lens.load_state_dict(weights)
    return lens.freeze()
