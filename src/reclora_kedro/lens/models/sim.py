"""SIM: target attention over the history retrieved for the target (Qi et al. 2020, arXiv 2006.05639)."""

from typing import ClassVar

from torch import Tensor

from reclora_kedro.lens.base import Lens, LensBatch
from reclora_kedro.lens.config import LensConfig, LensSizes
from reclora_kedro.lens.layers import TargetAttention


class Sim(Lens):
    """Search-based Interest Model: target attention over the retrieved events."""

    reads_long_history: ClassVar[bool] = True

    def __init__(self, config: LensConfig, sizes: LensSizes) -> None:
        super().__init__(config, sizes)
        self.attention = TargetAttention(self.item.output_dim, self.event_dim, config.attention_dim)
        self.build_head(self.fields_dim + self.event_dim, self.user_dim)

    def fields(self, batch: LensBatch) -> tuple[Tensor, ...]:
        """Return the user state, the target item, and the long history weighted by the target."""
        target = self.item(batch.item)
        interest = self.attention(target, self.embed_events(batch.long_history), batch.long_history.mask)
        return self.user_state(batch), target, interest
