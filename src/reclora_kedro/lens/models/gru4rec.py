"""GRU4Rec: a recurrent network over the recent history (Hidasi et al. 2016, arXiv 1511.06939)."""

import torch
from torch import Tensor, nn

from reclora_kedro.layers import last_event
from reclora_kedro.lens.base import Lens, LensBatch
from reclora_kedro.lens.config import LensConfig, LensSizes


class Gru4Rec(Lens):
    """A gated recurrent unit reads the recent events; its last state meets the target in the MLP."""

    def __init__(self, config: LensConfig, sizes: LensSizes) -> None:
        super().__init__(config, sizes)
        self.recurrent = nn.GRU(self.event_dim, self.event_dim, batch_first=True)
        self.build_head(self.fields_dim, self.user_dim)

    def user_state(self, batch: LensBatch) -> Tensor:
        """Return the user's fields and the network's state after the last event."""
        outputs, _ = self.recurrent(self.embed_events(batch.recent_history))
        return torch.cat([self.user(batch.user), last_event(outputs, batch.recent_history.mask)], dim=-1)
