"""Cached states of the base LLM's layers below an adapter, which all models on that LLM share."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from reclora_kedro.llm.attention import attends_to_all_before

DROPOUTS = ("attention_dropout", "resid_pdrop", "embd_pdrop")
"""Configuration settings that make layers random in training."""


class FrozenLayers:
    """Cache of the states that the frozen layers of a base LLM compute for batches of prompts.

    Untrained, shared and personalized models read the same prompts, as do all validations during training; the layers
    below the first adapted one compute the same states each time. A batch is identified by all of its token ids,
    padding included, so that results stay equal to the last bit. States are kept on the CPU, up to `capacity` bytes.
    """

    def __init__(self, capacity: int = 2**30) -> None:
        self._capacity = self._free_bytes = capacity
        self._first_layer: int | None = None  # index of the first layer that reads the cached states
        self._states: dict[tuple[torch.Size, bytes], Tensor] = {}

    def last_hidden_states(self, model: Any, token_ids: Tensor) -> Tensor:
        """Return final hidden states of right-padded prompts, with or without an adapter: (batch, tokens, hidden).

        No attention mask is needed: attention is causal, so no token attends to the padding after it.
        """
        decoder = model.get_decoder()
        first = self._start(model, decoder, token_ids.shape[1])
        if not first:
            return decoder(input_ids=token_ids, use_cache=False).last_hidden_state
        batch = token_ids.shape, token_ids.cpu().numpy().tobytes()
        if (states := self._states.get(batch)) is not None:
            with layers_replaced(decoder, decoder.layers[first:]):
                return decoder(inputs_embeds=states.to(token_ids.device), use_cache=False).last_hidden_state
        with decoder.layers[first].register_forward_pre_hook(partial(self._remember, batch)):
            return decoder(input_ids=token_ids, use_cache=False).last_hidden_state

    def _start(self, model: Any, decoder: Any, tokens: int) -> int | None:
        """Return the first layer to compute from cached states; None or 0 if nothing can be cached."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        config = model.config.get_text_config()
        random = decoder.training and any(getattr(config, dropout, 0) for dropout in DROPOUTS)
        if random or not attends_to_all_before(model, tokens):
            return None
        adapted = (any(isinstance(part, BaseTunerLayer) for part in layer.modules()) for layer in decoder.layers)
        first = next((index for index, is_adapted in enumerate(adapted) if is_adapted), None)
        if first is None:
            return self._first_layer
        if self._first_layer is None or first < self._first_layer:
            self._first_layer, self._free_bytes = first, self._capacity
            self._states.clear()
        return self._first_layer

    def _remember(self, batch: tuple[torch.Size, bytes], _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].nbytes <= self._free_bytes:
            self._free_bytes -= inputs[0].nbytes
            with torch.inference_mode(False):  # states cached while scoring may serve training too
                self._states[batch] = inputs[0].detach().to("cpu", copy=True)


@contextmanager
def layers_replaced(decoder: Any, layers: Iterable[nn.Module]) -> Iterator[None]:
    """Let forward passes inside the context use only these layers; states may be passed as embeddings."""
    own = decoder.layers
    decoder.layers = nn.ModuleList(layers)
    try:
        yield
    finally:
        decoder.layers = own
