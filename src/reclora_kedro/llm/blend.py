"""How the lens's logit enters a score, and what a server of an exported adapter must know of it."""

from typing import Literal

Blend = Literal["none", "average"]
"""How the lens's logit enters a score: not at all, or as the mean of it and the LLM's."""

SERVER_NOTES: dict[Blend, str] = {
    "none": "",
    "average": "Scores are of the mean of two logits (blend: average): a server must take the mean of the lens's logit "
    "and the LLM's logit of the answer. The LoRAs alone don't hold the lens's.",
}
"""Instructions, by blend, for a server that loads only an exported adapter."""
