"""DIN: target attention over the user's recent history (Zhou et al. 2018, arXiv 1706.06978)."""

import torch
from torch import Tensor

from reclora_kedro.lens.base import Lens, LensBatch
from reclora_kedro.lens.config import LensConfig, LensSizes
from reclora_kedro.lens.layers import TargetAttention, mean_pool


class Din(Lens):
    """Deep Interest Network: weighs the recent behaviours by the target."""

    def __init__(self, config: LensConfig, sizes: LensSizes) -> None:
        super().__init__(config, sizes)
        self.attention = TargetAttention(self.item.output_dim, self.behaviour_dim, config.attention_dim)
        user_dim = self.user.output_dim + self.behaviour_dim
        self.build_head(user_dim, user_dim + self.item.output_dim + self.behaviour_dim)

    def user_state(self, batch: LensBatch) -> Tensor:
        """The user's fields and the mean of the recent history."""
        return self._user_state(batch, self.embed_behaviours(batch.recent_history))

    def fields_state(self, batch: LensBatch) -> Tensor:
        """The user state, the target item, and the recent history as the target weighs it."""
        recent, target = self.embed_behaviours(batch.recent_history), self.item(batch.item)
        interest = self.attention(target, recent, batch.recent_history.mask)
        return torch.cat([self._user_state(batch, recent), target, interest], dim=-1)

    def _user_state(self, batch: LensBatch, recent: Tensor) -> Tensor:
        return torch.cat([self.user(batch.user), mean_pool(recent, batch.recent_history.mask)], dim=-1)
