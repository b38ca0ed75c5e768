"""AutoInt: self-attention among the fields, beside an MLP (Song et al. 2019, arXiv 1810.11921)."""

import torch
from torch import Tensor, nn

from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.config import LensConfig, LensSizes

HEADS = 2


class AutoInt(Lens):
    """Multi-head self-attention over the fields, one layer, and an MLP; the history enters as its mean.

    ValueError if the heads cannot share the width of an embedding.
    """

    def __init__(self, config: LensConfig, sizes: LensSizes) -> None:
        if config.embedding_dim % HEADS:
            raise ValueError(
                f"lens.embedding_dim is {config.embedding_dim}, which the {HEADS} heads of the lens autoint cannot "
                f"share: set it to a multiple of {HEADS}."
            )
        super().__init__(config, sizes)
        self.attention = nn.MultiheadAttention(config.embedding_dim, HEADS, bias=False, batch_first=True)
        self.residual = nn.Linear(config.embedding_dim, config.embedding_dim, bias=False)
        self.build_head(self.fields_dim, self.user_dim, interaction_dim=self.fields_dim)

    def interact(self, fields: Tensor) -> Tensor:
        """Return the MLP's last hidden layer and the fields after self-attention (AutoInt, equations 5 to 8)."""
        vectors = fields.unflatten(-1, (-1, self.config.embedding_dim))
        attended, _ = self.attention(vectors, vectors, vectors, need_weights=False)
        return torch.cat([self.mlp(fields), torch.relu(attended + self.residual(vectors)).flatten(1)], dim=-1)
