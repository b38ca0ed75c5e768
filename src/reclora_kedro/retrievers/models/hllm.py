"""HLLM: a causal transformer over the histories' texts, as an item encoder left them (Chen et al. 2024).

The paper (arXiv 2409.12740) tunes two LLMs together. Here the item encoder is that of the item embeddings, frozen or
tuned before, and the user model a small transformer; loss and scores are the paper's.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from reclora_kedro.retrievers.config import RetrieverConfig, RetrieverSizes
from reclora_kedro.retrievers.models import sasrec

INITIAL_TEMPERATURE = 0.07


class Hllm(sasrec.SasRec):
    """SASRec's transformer between normalised vectors: InfoNCE with a learned temperature (equation 3)."""

    def __init__(self, config: RetrieverConfig, sizes: RetrieverSizes) -> None:
        super().__init__(config, sizes)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(INITIAL_TEMPERATURE)))

    def item_vectors(self, item: Tensor) -> Tensor:
        """The directions of the items' vectors."""
        return functional.normalize(super().item_vectors(item), dim=-1)

    def forward(self, events: Tensor) -> Tensor:
        """The directions of the last block's outputs, divided by the temperature."""
        return functional.normalize(super().forward(events), dim=-1) * self.log_scale.exp()
