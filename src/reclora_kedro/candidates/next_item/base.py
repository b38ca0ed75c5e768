"""The retriever interface: the operations of every next-item model, building, saving and loading."""

import copy
import logging
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from reclora_kedro.candidates.next_item import RETRIEVER_MODELS
from reclora_kedro.candidates.next_item.config import RetrieverConfig, RetrieverSizes
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.layers import INITIAL_EMBEDDING_STD, embedding_table
from reclora_kedro.parameters import saved_settings
from reclora_kedro.saved_models import load_model, save_model

logger = logging.getLogger(__name__)


class Retriever(nn.Module, ABC):
    """A next-item model: a state per event of a history, whose product with an item's vector is the item's score.

    Histories and candidates share one table of items: a vector of the id, a projection of the text's, or their sum.
    Items without training events have no id vector, and items without text no text vector. If there are texts, a share
    of ids is hidden in training, so that new items are found by their texts. Models override `forward`.
    """

    events: Tensor
    texts: Tensor

    def __init__(self, config: RetrieverConfig, sizes: RetrieverSizes) -> None:
        super().__init__()
        self.config, self.sizes = config, sizes
        self.register_buffer("events", torch.zeros(sizes.items, dtype=torch.long))  # of training
        if config.item_ids:
            self.ids = embedding_table(sizes.items, config.dim)
        if config.item_text:
            self.register_buffer("texts", torch.zeros(sizes.items, sizes.item_text_width))
            self.of_text = nn.Linear(sizes.item_text_width, config.dim, bias=False)
            nn.init.normal_(self.of_text.weight, std=INITIAL_EMBEDDING_STD)

    def item_vectors(self, item: Tensor) -> Tensor:
        """Return the vectors of items by index: (n,) to (n, dim)."""
        vectors = torch.zeros(())
        if self.config.item_ids:
            is_visible = self.events[item] > 0
            if self.training and self.config.item_text:
                is_visible = is_visible & (
                    torch.rand(is_visible.shape, device=is_visible.device) >= self.config.item_id_dropout
                )
            vectors = self.ids(item) * is_visible.unsqueeze(-1)
        if self.config.item_text:
            vectors = vectors + self.of_text(self.texts[item])
        return vectors

    @abstractmethod
    def forward(self, events: Tensor) -> Tensor:
        """Return the states after each event of histories from the items' vectors, both (batch, length, dim).

        A state must depend on its own event and earlier ones only, so that padding after a history has no effect.
        """

    @property
    def scored(self) -> Tensor:
        """Return which items have a trained id or a text: bool, shape (items,)."""
        scored = torch.zeros_like(self.events, dtype=torch.bool)
        if self.config.item_ids:
            scored |= self.events > 0
        if self.config.item_text:
            scored |= self.texts.any(dim=1)
        return scored

    def freeze(self) -> Self:
        """Disable gradients and dropout for good."""
        return self.requires_grad_(False).eval()

    def save(self, folder: Path) -> None:
        save_model(self, folder, "retriever", self.config, self.sizes)


def build_retriever(config: RetrieverConfig, sizes: RetrieverSizes) -> Retriever:
    """Build the retriever `config.model` with fresh weights and empty tables."""
    # Retriever only says which subclass is looked for; mypy takes no abstract class as a value.
    return RETRIEVER_MODELS.load_class(config.model, Retriever)(config, sizes)  # type: ignore[type-abstract]


def require_retriever(config: RetrieverConfig) -> None:
    """Raise ValueError for settings with which the retriever `config.model` cannot be built, whatever the log."""
    build_retriever(config, RetrieverSizes(items=1, item_text_width=1))


def fresh_retriever(texts: Tensor, training_items: Tensor, config: RetrieverConfig) -> Retriever:
    """Build an untrained retriever for items by their texts' vectors, (items, width), and training events, (events,).

    The width is 0 where the retriever reads no texts.
    """
    items, width = texts.shape
    retriever = build_retriever(config, RetrieverSizes(items=items, item_text_width=width))
    retriever.events.copy_(torch.bincount(training_items, minlength=items))
    if config.item_text:
        retriever.texts.copy_(texts)
    return retriever


def grow_retriever(retriever: Retriever, log: InteractionLog) -> Retriever:
    """Extend a frozen retriever to a log with more items, which must follow its own; scores of these do not change.

    New items are found by their texts if it reads texts, and rank last otherwise. MismatchError is raised for a log
    with fewer items.
    """
    trained, items = retriever.sizes.items, log.items.height
    log.require_grown(trained, "items", "retriever")
    if items > trained:
        finds = "finds" if retriever.config.item_text else "does not find"
        learns = "`kedro run --pipelines candidates` trains it on all."
        logger.info("%d of %d items are new to the retriever, which %s them. %s", items - trained, items, finds, learns)
    grown = copy.deepcopy(retriever)
    grown.sizes = retriever.sizes.model_copy(update={"items": items})
    grown.events = functional.pad(retriever.events, (0, items - trained))
    if retriever.config.item_ids:
        grown.ids = nn.Embedding.from_pretrained(functional.pad(retriever.ids.weight, (0, 0, 0, items - trained)))
    if retriever.config.item_text:
        grown.texts = torch.from_numpy(log.item_text_vectors())
    return grown.freeze()


def load_retriever(folder: Path) -> Retriever:
    """Load the frozen retriever that `Retriever.save` wrote, equal to the last bit; ValueError as of `load_model`."""

    def build(config: Any, sizes: Any) -> Retriever:
        return build_retriever(saved_settings(RetrieverConfig, config, "candidates"), RetrieverSizes(**sizes))

    return load_model(folder, "retriever", "candidates", build).freeze()
