"""DIN: target attention over the user's recent history (Zhou et al. 2018, arXiv 1706.06978)."""

import torch
from torch import Tensor

from reclora_kedro.lens.base import Lens, LensBatch
from reclora_kedro.lens.config import LensConfig, LensSizes
from reclora_kedro.lens.layers import TargetAttention, mean_weights, shared


class Din(Lens):
    """Deep Interest Network: weighs the recent events by the target."""

    def __init__(self, config: LensConfig, sizes: LensSizes) -> None:
        super().__init__(config, sizes)
        self.attention = TargetAttention(self.item.output_dim, self.event_dim, config.attention_dim)
        self.build_head(self.fields_dim + self.event_dim, self.user_dim)

    def fields(self, batch: LensBatch) -> tuple[Tensor, ...]:
        """Return the user state, the target item, and the recent history weighted by the target."""
        recent, mask = self.embed_events(batch.recent_history), batch.recent_history.mask
        target = self.item(batch.item)
        # Both pools are one matrix product: the events, and their gradients, are gone through once.
        attention = self.attention.weights(target, recent, mask)
        weights = torch.stack([mean_weights(mask).expand_as(attention), attention], dim=1)
        mean, interest = (weights @ shared(recent)).unbind(dim=1)
        return self.user(batch.user), mean, target, interest
