"""TWIN: one attention for search in a lifelong history and for pooling (Chang et al. 2023, arXiv 2302.02352)."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from reclora_kedro.layers import distinct_indices
from reclora_kedro.lens.base import History, Lens, LensBatch
from reclora_kedro.lens.config import LensConfig, LensSizes
from reclora_kedro.lens.layers import masked_softmax, products, weighted_sum

RETRIEVED = 30  # events that the search hands to the attention


class Twin(Lens):
    """Two-stage Interest Network: the search ranks events by the scores of the attention.

    An event's score for a target is q(target)·k(item) / √d + b(rating). The item's part is computed once per distinct
    item of the batch.
    """

    reads_long_history: ClassVar[bool] = True

    def __init__(self, config: LensConfig, sizes: LensSizes) -> None:
        super().__init__(config, sizes)
        self.query = nn.Linear(self.item.output_dim, config.attention_dim)
        self.key = nn.Linear(self.item.output_dim, config.attention_dim, bias=False)
        self.of_rating = nn.Embedding(sizes.rating_levels, 1)
        nn.init.zeros_(self.of_rating.weight)
        self.build_head(self.fields_dim + self.event_dim, self.user_dim)

    def fields(self, batch: LensBatch) -> tuple[Tensor, ...]:
        """Return the user state, the target item, and the found events weighted by the attention."""
        target = self.item(batch.item)
        query = self.query(target) * self.key.out_features**-0.5
        retrieved = self.search(query, batch.long_history)
        events = self.embed_events(retrieved)
        keys = self.key(events[..., : self.item.output_dim])
        scores = products(keys, query) + self.of_rating(retrieved.rating).squeeze(-1)
        interest = weighted_sum(masked_softmax(scores, retrieved.mask, dim=1), events)
        return self.user_state(batch), target, interest

    @torch.no_grad()
    def search(self, query: Tensor, history: History) -> History:
        """Return the events that score highest for queries (batch, attention_dim): (batch, `RETRIEVED` or fewer)."""
        if history.item.shape[1] <= RETRIEVED:
            return history
        own = history.map(lambda part: part.expand(len(query), *part.shape[1:]))
        items, place = distinct_indices(history.item, self.sizes.items)
        scores = (query @ self.key(self.item(items)).T).gather(1, place.expand_as(own.item))
        scores = (scores + self.of_rating.weight[history.rating, 0]).masked_fill(~own.mask, -torch.inf)
        top = scores.topk(RETRIEVED, dim=1, sorted=False).indices
        return own.map(lambda part: part.take_along_dim(top if part.dim() == 2 else top.unsqueeze(-1), dim=1))
