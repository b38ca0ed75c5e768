"""SASRec: causal self-attention over the history (Kang and McAuley 2018, arXiv 1808.09781)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from reclora_kedro.candidates.next_item.base import Retriever
from reclora_kedro.candidates.next_item.config import RetrieverConfig, RetrieverSizes
from reclora_kedro.layers import read_causally, transformer_blocks


class SasRec(Retriever):
    """Transformer blocks over the events and their positions, trained by cross-entropy over the catalogue.

    The paper's binary loss with one negative per event is far less accurate (Klenitskiy and Vasilev 2023, arXiv
    2309.07602).
    """

    def __init__(self, config: RetrieverConfig, sizes: RetrieverSizes) -> None:
        super().__init__(config, sizes)
        self.position = nn.Embedding(config.length, config.dim)
        nn.init.normal_(self.position.weight, std=0.02)
        self.blocks = transformer_blocks(config.layers, config.dim, config.heads, config.dim, config.dropout)
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, events: Tensor) -> Tensor:
        places = torch.arange(events.shape[1], device=events.device)
        events = functional.dropout(events + self.position(places), self.config.dropout, self.training)
        return self.norm(read_causally(self.blocks, events))
