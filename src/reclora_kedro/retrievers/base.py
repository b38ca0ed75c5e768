"""The retriever interface: what every next-item model offers, how it is built, saved and loaded."""

import copy
import json
import logging
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from kedro_provenance.errors import MismatchError
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens.layers import INITIAL_EMBEDDING_STD, embedding_table
from reclora_kedro.retrievers import RETRIEVER_MODELS
from reclora_kedro.retrievers.config import RetrieverConfig, RetrieverSizes

logger = logging.getLogger(__name__)


class Retriever(nn.Module, ABC):
    """A next-item model: a state per event of a history, whose product with an item's vector is the item's score.

    Histories and candidates share one table of items: the id's own vector, a projection of the text's, or their sum. An
    item without training events has no vector of its id, and one without text none of its text. In training, ids are
    hidden at a rate where there are texts, so that new items are found by these. A model overrides `forward`.
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
        """Vectors of items by index: (n,) to (n, dim)."""
        vectors = torch.zeros(())
        if self.config.item_ids:
            shown = self.events[item] > 0
            if self.training and self.config.item_text:
                shown = shown & (torch.rand(shown.shape, device=shown.device) >= self.config.item_id_dropout)
            vectors = self.ids(item) * shown.unsqueeze(-1)
        if self.config.item_text:
            vectors = vectors + self.of_text(self.texts[item])
        return vectors

    @abstractmethod
    def forward(self, events: Tensor) -> Tensor:
        """States after each event of histories by the vectors of their items: (batch, length, dim) to the same shape.

        A state depends on its own event and earlier ones alone, so that what stands behind a history does not matter.
        """

    @property
    def scored(self) -> Tensor:
        """Items of which the model knows something: a trained id, or a text. (items,)."""
        scored = torch.zeros_like(self.events, dtype=torch.bool)
        if self.config.item_ids:
            scored |= self.events > 0
        if self.config.item_text:
            scored |= self.texts.any(dim=1)
        return scored

    def freeze(self) -> Self:
        """End training for good: no gradients, and no live dropout."""
        return self.requires_grad_(False).eval()

    def save(self, folder: Path) -> None:
        """Write settings and weights to an existing folder."""
        settings = {"retriever": self.config.model_dump(mode="json"), "sizes": self.sizes.model_dump(mode="json")}
        (folder / "retriever.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
        save_file(self.state_dict(), folder / "retriever.safetensors")


def build_retriever(config: RetrieverConfig, sizes: RetrieverSizes) -> Retriever:
    """The retriever `config.model` with fresh weights and empty tables."""
    # Retriever only says which subclass is looked for; mypy takes no abstract class as a value.
    return RETRIEVER_MODELS.load_class(config.model, Retriever)(config, sizes)  # type: ignore[type-abstract]


def require_retriever(config: RetrieverConfig) -> None:
    """Refuse settings that the retriever `config.model` cannot be built with, whatever the log is.

    Raises:
        ValueError: the model does not take them.
    """
    build_retriever(config, RetrieverSizes(items=1, item_text_width=1))


def fresh_retriever(log: InteractionLog, training_items: Tensor, config: RetrieverConfig) -> Retriever:
    """A retriever that knows the items of a log, and those of its training events, (events,), but nothing else yet."""
    texts = torch.from_numpy(log.item_text_vectors()) if config.item_text else torch.empty(log.items.height, 0)
    retriever = build_retriever(config, RetrieverSizes(items=log.items.height, item_text_width=texts.shape[1]))
    retriever.events.copy_(torch.bincount(training_items, minlength=log.items.height))
    if config.item_text:
        retriever.texts.copy_(texts)
    return retriever


def grow_retriever(retriever: Retriever, log: InteractionLog) -> Retriever:
    """A frozen retriever for a log with more items, which follow those that it knows; scores of these stay the same.

    It finds new ones by their texts, if it reads any, and puts them last otherwise.

    Raises:
        MismatchError: the log has fewer items.
    """
    trained, items = retriever.sizes.items, log.items.height
    if items < trained:
        raise MismatchError(
            f"The log has {items} items, but the retriever knows {trained}, and none of them may go: give it a log "
            "that grew from its own.",
            "log",
            "retriever",
        )
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
    """The frozen retriever that `Retriever.save` wrote; its scores are the same to the last bit.

    Raises:
        RuntimeError: the weights are those of another retriever; names every missing, surplus and misshapen tensor.
    """
    settings = json.loads((folder / "retriever.json").read_text(encoding="utf-8"))
    retriever = build_retriever(RetrieverConfig(**settings["retriever"]), RetrieverSizes(**settings["sizes"]))
    retriever.load_state_dict(load_file(folder / "retriever.safetensors"))
    return retriever.freeze()
