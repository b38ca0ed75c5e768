"""SASRec: causal self-attention over the recent history (Kang and McAuley 2018, arXiv 1808.09781)."""

import torch
from torch import Tensor, nn

from reclora_kedro.layers import INITIAL_EMBEDDING_STD, last_event, read_causally, transformer_blocks
from reclora_kedro.lens.base import Lens, LensBatch
from reclora_kedro.lens.config import LensConfig, LensSizes
from reclora_kedro.lens.layers import recency

BLOCKS = 1


class SasRec(Lens):
    """Transformer blocks read the recent events; the last one's output meets the target in the MLP."""

    def __init__(self, config: LensConfig, sizes: LensSizes) -> None:
        super().__init__(config, sizes)
        self.position = nn.Embedding(config.recent_length, self.event_dim)
        nn.init.normal_(self.position.weight, std=0.02)
        self.blocks = transformer_blocks(BLOCKS, self.event_dim, 1, self.event_dim, config.dropout)
        self.norm = nn.LayerNorm(self.event_dim)
        nn.init.constant_(self.norm.weight, INITIAL_EMBEDDING_STD)  # no louder than the ids' vectors beside it
        self.build_head(self.fields_dim, self.user_dim)

    def user_state(self, batch: LensBatch) -> Tensor:
        """Return the user's fields and the transformer's output at the last event."""
        mask = batch.recent_history.mask
        states = self.embed_events(batch.recent_history) + self.position(recency(mask, len(self.position.weight)))
        states = read_causally(self.blocks, states)
        return torch.cat([self.user(batch.user), last_event(self.norm(states), mask)], dim=-1)
