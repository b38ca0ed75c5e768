"""DCN-V2: explicit crosses of bounded degree beneath an MLP (Wang et al. 2021, arXiv 2008.13535)."""

from torch import Tensor, nn

from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.config import LensConfig, LensSizes

CROSS_LAYERS = 2


class DcnV2(Lens):
    """The stacked form: cross layers first, then the MLP; the history enters as its mean."""

    def __init__(self, config: LensConfig, sizes: LensSizes) -> None:
        super().__init__(config, sizes)
        self.crosses = nn.ModuleList(nn.Linear(self.fields_dim, self.fields_dim) for _ in range(CROSS_LAYERS))
        self.build_head(self.fields_dim, self.user_dim)

    def interact(self, fields: Tensor) -> Tensor:
        """Return the MLP's last hidden layer over the crossed fields, x ← x₀ ∘ (W x + b) + x (DCN-V2, equation 1)."""
        crossed = fields
        for cross in self.crosses:
            crossed = fields * cross(crossed) + crossed
        return self.mlp(crossed)
