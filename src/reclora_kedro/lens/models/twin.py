"""TWIN: one attention searches a lifelong history and weighs what it found (Chang et al. 2023, arXiv 2302.02352)."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from reclora_kedro.lens.base import History, Lens, LensBatch
from reclora_kedro.lens.config import LensConfig, LensSizes
from reclora_kedro.lens.layers import distinct_indices, masked_softmax

FOUND = 30  # events that the search hands to the attention


class Twin(Lens):
    """Two-stage Interest Network: search and attention score events alike, so that the search finds what counts.

    An event's score for a target is q(target)·k(item) / √d + b(rating). The item's part is computed once per item
    of the batch, not once per event.
    """

    reads_long_history: ClassVar[bool] = True

    def __init__(self, config: LensConfig, sizes: LensSizes) -> None:
        super().__init__(config, sizes)
        self.query = nn.Linear(self.item.output_dim, config.attention_dim)
        self.key = nn.Linear(self.item.output_dim, config.attention_dim, bias=False)
        self.of_rating = nn.Embedding(sizes.rating_levels, 1)
        nn.init.zeros_(self.of_rating.weight)
        self.build_head(self.fields_dim + self.event_dim, self.user_dim)

    def fields_state(self, batch: LensBatch) -> Tensor:
        """The user state, the target item, and what it found in the long history, as it weighs that."""
        target = self.item(batch.item)
        query = self.query(target) * self.key.out_features**-0.5
        found = self.search(query, batch.long_history)
        events = self.embed_events(found)
        keys = self.key(events[..., : self.item.output_dim])
        scores = (keys @ query.unsqueeze(-1)).squeeze(-1) + self.of_rating(found.rating).squeeze(-1)
        interest = (masked_softmax(scores, found.mask).unsqueeze(1) @ events).squeeze(1)
        return torch.cat([self.user_state(batch), target, interest, self.numeric_fields(batch)], dim=-1)

    @torch.no_grad()
    def search(self, query: Tensor, history: History) -> History:
        """The events with the `FOUND` highest scores for each query, (batch, attention_dim): (batch, at most FOUND)."""
        if history.item.shape[1] <= FOUND:
            return history
        items, place = distinct_indices(history.item, self.sizes.items)
        scores = (query @ self.key(self.item(items)).T).gather(1, place) + self.of_rating.weight[history.rating, 0]
        scores.masked_fill_(~history.mask, -torch.inf)
        top = scores.topk(FOUND, dim=1, sorted=False).indices
        return History(history.item.gather(1, top), history.rating.gather(1, top), history.mask.gather(1, top))
