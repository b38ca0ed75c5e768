"""SIM: target attention over the history retrieved for the target (Qi et al. 2020, arXiv 2006.05639)."""

from typing import ClassVar

from torch import Tensor

from reclora_kedro.lens.base import LensBatch
from reclora_kedro.lens.models.din import Din


class Sim(Din):
    """Search-based Interest Model: DIN's attention over the retrieved events."""

    reads_long_history: ClassVar[bool] = True

    def fields(self, batch: LensBatch) -> tuple[Tensor, ...]:
        """Return the user state, the target item, and the long history weighted by the target."""
        target = self.item(batch.item)
        interest = self.attention(target, self.embed_events(batch.long_history), batch.long_history.mask)
        return self.user_state(batch), target, interest
