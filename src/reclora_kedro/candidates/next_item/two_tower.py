"""Two towers: a user's and an item's vector, whose product is the score (Covington et al. 2016, deep candidates)."""

import torch
from torch import Tensor, nn

from reclora_kedro.candidates.next_item.base import Retriever
from reclora_kedro.candidates.next_item.config import RetrieverConfig, RetrieverSizes


class TwoTower(Retriever):
    """The user tower is an MLP over the mean of the events' vectors and the last one; the item tower is the table."""

    def __init__(self, config: RetrieverConfig, sizes: RetrieverSizes) -> None:
        super().__init__(config, sizes)
        layers: list[nn.Module] = []
        for layer in range(config.layers):
            layers += [nn.Linear((1 if layer else 2) * config.dim, config.dim), nn.ReLU(), nn.Dropout(config.dropout)]
        self.user = nn.Sequential(nn.Dropout(config.dropout), *layers, nn.Linear(config.dim, config.dim))

    def forward(self, events: Tensor) -> Tensor:
        count = torch.arange(1, events.shape[1] + 1, device=events.device).unsqueeze(-1)
        return self.user(torch.cat([events.cumsum(dim=1) / count, events], dim=-1))
