"""DeepFM: a factorisation machine beside an MLP, over the same vectors (Guo et al. 2017, arXiv 1703.04247)."""

import torch
from torch import Tensor

from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.config import LensConfig, LensSizes


class DeepFm(Lens):
    """Factorisation machine and MLP; the history enters as one more field, its mean.

    The output layer reads the machine's second-order terms, one per dimension, the MLP's last hidden layer, and the
    fields' vectors, which give the first-order terms.
    """

    def __init__(self, config: LensConfig, sizes: LensSizes) -> None:
        super().__init__(config, sizes)
        self.build_head(self.fields_dim, self.user_dim, interaction_dim=config.embedding_dim + self.fields_dim)

    def interact(self, fields: Tensor) -> Tensor:
        """Return the MLP's last hidden layer, the products of all pairs of fields, ½((Σv)² - Σv²), and the fields."""
        vectors = fields.unflatten(-1, (-1, self.config.embedding_dim))
        pairs = (vectors.sum(dim=1) ** 2 - (vectors**2).sum(dim=1)) / 2
        return torch.cat([self.mlp(fields), pairs, fields], dim=-1)
