"""A small causal transformer over frozen text vectors of the history and the target, without item ids.

It has the form of HLLM (Chen et al. 2024, arXiv 2409.12740), whose item and user models are LLMs tuned together.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from reclora_kedro.layers import INITIAL_EMBEDDING_STD, last_event, read_causally, transformer_blocks
from reclora_kedro.lens.base import History, Lens, LensBatch
from reclora_kedro.lens.config import LensConfig, LensSizes
from reclora_kedro.lens.layers import recency

WIDTH = 64
HEADS = 2
BLOCKS = 2


class TextTransformer(Lens):
    """A transformer over the texts of the recent events, oldest first, and then of the target.

    Its output at the target (early fusion) is a field of the MLP, like the target itself. Items without training events
    are treated as any other. ValueError if the lens does not read texts.
    """

    def __init__(self, config: LensConfig, sizes: LensSizes) -> None:
        if not config.item_text:
            raise ValueError("The lens text_transformer only reads texts of items: set lens.item_text to true.")
        super().__init__(config, sizes)
        self.read_item = nn.Linear(sizes.of_items.text_width, WIDTH)
        self.read_rating = nn.Embedding(sizes.rating_levels, WIDTH)
        if self.columns_dim:
            self.read_columns = nn.Linear(self.columns_dim, WIDTH)
        self.position = nn.Embedding(1 + config.recent_length, WIDTH)  # counted from the target, which is at 0
        for table in (self.read_rating, self.position):
            nn.init.normal_(table.weight, std=0.02)
        self.blocks = transformer_blocks(BLOCKS, WIDTH, HEADS, 2 * WIDTH, config.dropout)
        self.norm = nn.LayerNorm(WIDTH)
        nn.init.constant_(self.norm.weight, INITIAL_EMBEDDING_STD)  # no louder than the ids' vectors beside it
        user_dim = self.user.output_dim + WIDTH
        self.build_head(user_dim + 2 * WIDTH + self.numeric_dim, user_dim)

    def user_state(self, batch: LensBatch) -> Tensor:
        """Return the user's fields and the transformer's output at the last event."""
        events = self._events(batch.recent_history)
        return torch.cat([self.user(batch.user), last_event(self._read(events), batch.recent_history.mask)], dim=-1)

    def fields(self, batch: LensBatch) -> tuple[Tensor, ...]:
        """Return the user state, the transformer's output at the target, and the target."""
        target = self._read_item(batch.item)
        mask = batch.recent_history.mask.expand(len(target), -1)
        # The target stands right behind the last event; attention is causal, so that what follows is never seen.
        places = torch.arange(mask.shape[1] + 1, device=mask.device) == mask.sum(dim=1, keepdim=True)
        events = functional.pad(self._events(batch.recent_history), (0, 0, 0, 1))
        states = self._read(events.where(~places.unsqueeze(-1), (target + self.position.weight[0]).unsqueeze(1)))
        return self.user(batch.user), last_event(states[:, :-1], mask), states[places], target

    def _read_item(self, item: Tensor) -> Tensor:
        return self.read_item(functional.dropout(self.item.texts[item], self.config.item_text_dropout, self.training))

    def _events(self, past: History) -> Tensor:
        """Return the transformer's inputs for events: (batch, length, WIDTH)."""
        place = self.position(1 + recency(past.mask, len(self.position.weight) - 1))
        events, columns = self._read_item(past.item) + self.read_rating(past.rating) + place, self.embed_columns(past)
        return events + self.read_columns(torch.cat(columns, dim=-1)) if columns else events

    def _read(self, tokens: Tensor) -> Tensor:
        return self.norm(read_causally(self.blocks, tokens))
