"""SASRec over the vectors of items' texts, with the loss and the scores of HLLM (Chen et al. 2024, arXiv 2409.12740).

It is not HLLM, which tunes an LLM of items and an LLM of users together, and reads an item at a token of its own. Here
vectors of texts are those of an item encoder, frozen or tuned before, and the user model is SASRec's small transformer.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from reclora_kedro.candidates.next_item import sasrec
from reclora_kedro.candidates.next_item.config import RetrieverConfig, RetrieverSizes

INITIAL_TEMPERATURE = 0.07


class TextSasRec(sasrec.SasRec):
    """SASRec's transformer between normalised vectors: InfoNCE with a learned temperature (equation 3).

    ValueError is raised for a retriever that does not read texts.
    """

    def __init__(self, config: RetrieverConfig, sizes: RetrieverSizes) -> None:
        if not config.item_text:
            raise ValueError("The retriever text_sasrec reads items by their texts: set retriever.item_text to true.")
        super().__init__(config, sizes)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(INITIAL_TEMPERATURE)))

    def item_vectors(self, item: Tensor) -> Tensor:
        """Return the normalised vectors of items by index: (n,) to (n, dim)."""
        return functional.normalize(super().item_vectors(item), dim=-1)

    def forward(self, events: Tensor) -> Tensor:
        """Return the normalised states after each event, divided by the temperature: (batch, length, dim)."""
        return functional.normalize(super().forward(events), dim=-1) * self.log_scale.exp()
