"""The LLM: loading, prompts, batches, embeddings and answers."""

from typing import Literal

Blend = Literal["none", "average"]
"""How the lens's logit enters a score: not at all, or as the mean of it and the LLM's."""
OTHER_SOURCE = "Change `source` of the catalog entry"
