"""HLLM: a causal transformer over the histories' texts, as an item encoder left them (Chen et al. 2024).

The paper (arXiv 2409.12740) tunes two LLMs together. Here the item encoder is that of the item embeddings, frozen or
tuned before, and the user model a small transformer; loss and scores are the paper's.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from reclora_kedro.candidates.next_item import sasrec
from reclora_kedro.candidates.next_item.config import RetrieverConfig, RetrieverSizes

INITIAL_TEMPERATURE = 0.07


class Hllm(sasrec.SasRec):
    """SASRec's transformer between normalised vectors: InfoNCE with a learned temperature (equation 3).

    Raises:
        ValueError: the retriever does not read texts.
    """

    def __init__(self, config: RetrieverConfig, sizes: RetrieverSizes) -> None:
        if not config.item_text:
            raise ValueError("The retriever hllm reads items by their texts: set retriever.item_text to true.")
        super().__init__(config, sizes)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(INITIAL_TEMPERATURE)))

    def item_vectors(self, item: Tensor) -> Tensor:
        """Return the normalised vectors of items by index: (n,) to (n, dim)."""
        return functional.normalize(super().item_vectors(item), dim=-1)

    def forward(self, events: Tensor) -> Tensor:
        """Return the normalised states after each event, divided by the temperature: (batch, length, dim)."""
        return functional.normalize(super().forward(events), dim=-1) * self.log_scale.exp()
