"""SIM: target attention over the behaviours retrieved for the target (Pi et al. 2020, arXiv 2006.05639)."""

import torch
from torch import Tensor

from reclora_kedro.lens.base import Lens, LensBatch
from reclora_kedro.lens.config import LensConfig, LensSizes
from reclora_kedro.lens.layers import TargetAttention, mean_pool


class Sim(Lens):
    """Search-based Interest Model: the history step searches, target attention weighs what it found."""

    def __init__(self, config: LensConfig, sizes: LensSizes) -> None:
        super().__init__(config, sizes)
        self.attention = TargetAttention(self.item.output_dim, self.behaviour_dim, config.attention_dim)
        user_dim = self.user.output_dim + self.behaviour_dim
        self.build_head(user_dim, user_dim + self.item.output_dim + self.behaviour_dim)

    def user_state(self, batch: LensBatch) -> Tensor:
        """The user's fields and the mean of the recent history: the retrieved one depends on the target."""
        recent = mean_pool(self.embed_behaviours(batch.recent_history), batch.recent_history.mask)
        return torch.cat([self.user(batch.user), recent], dim=-1)

    def fields_state(self, batch: LensBatch) -> Tensor:
        """The user state, the target item, and the long history as the target weighs it."""
        target = self.item(batch.item)
        retrieved = self.embed_behaviours(batch.long_history)
        interest = self.attention(target, retrieved, batch.long_history.mask)
        return torch.cat([self.user_state(batch), target, interest], dim=-1)
