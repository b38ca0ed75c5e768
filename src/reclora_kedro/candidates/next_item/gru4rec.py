"""GRU4Rec: a recurrent network over the history (Hidasi et al. 2016, arXiv 1511.06939)."""

from torch import Tensor, nn
from torch.nn import functional

from reclora_kedro.candidates.next_item.base import Retriever
from reclora_kedro.candidates.next_item.config import RetrieverConfig, RetrieverSizes


class Gru4Rec(Retriever):
    """Gated recurrent units over the events; a linear layer maps their states to item vectors."""

    def __init__(self, config: RetrieverConfig, sizes: RetrieverSizes) -> None:
        super().__init__(config, sizes)
        dim, dropout = config.dim, config.dropout if config.layers > 1 else 0.0  # it is between layers alone
        self.recurrent = nn.GRU(dim, dim, config.layers, batch_first=True, dropout=dropout)
        self.output = nn.Linear(dim, dim)

    def forward(self, events: Tensor) -> Tensor:
        states, _ = self.recurrent(functional.dropout(events, self.config.dropout, self.training))
        return self.output(functional.dropout(states, self.config.dropout, self.training))
