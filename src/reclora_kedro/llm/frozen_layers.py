"""The layers of a base LLM below an adapter: what they make of a batch is the same for all models on that LLM."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from reclora_kedro.llm.attention import attends_to_all_before

DROPOUTS = ("attention_dropout", "resid_pdrop", "embd_pdrop")
"""Settings of transformers' configurations that make layers random while they are trained."""


class FrozenLayers:
    """Remembers what the frozen layers of one base LLM made of batches, for the next model that reads the same batch.

    Untrained, shared and personalized models read the same prompts, as do all validations of a training; layers below
    the first adapted one give each of them the same states. A batch is known again by all of its token ids, padding
    included, so that what follows is the same to the last bit. States lie on the CPU.

    Args:
        room: most bytes that are remembered; batches that come later are computed each time.
    """

    def __init__(self, room: int = 2**30) -> None:
        self._most = self._room = room
        self._below: int | None = None  # number of the first layer of the remembered states
        self._states: dict[tuple[torch.Size, bytes], Tensor] = {}

    def last_hidden_states(self, model: Any, token_ids: Tensor) -> Tensor:
        """Final hidden states of right-padded prompts by the base LLM, with or without an adapter.

        No attention mask is needed: attention is causal, so no real token ever sees the padding behind it.

        Returns:
            Shape (batch, tokens, hidden).
        """
        decoder = model.get_decoder()
        first = self._start(model, decoder, token_ids.shape[1])
        if not first:
            return decoder(input_ids=token_ids, use_cache=False).last_hidden_state
        batch = token_ids.shape, token_ids.cpu().numpy().tobytes()
        if (states := self._states.get(batch)) is not None:
            with layers_replaced(decoder, decoder.layers[first:]):
                return decoder(inputs_embeds=states.to(token_ids.device), use_cache=False).last_hidden_state
        with self._remembering(decoder.layers[first], batch):
            return decoder(input_ids=token_ids, use_cache=False).last_hidden_state

    def _start(self, model: Any, decoder: Any, tokens: int) -> int | None:
        """The layer from which on a model has to compute what is remembered; None or 0 where nothing can be."""
        config = model.config.get_text_config()
        random = decoder.training and any(getattr(config, dropout, 0) for dropout in DROPOUTS)
        if random or not attends_to_all_before(model, tokens):
            return None
        first = next((place for place, layer in enumerate(decoder.layers) if _is_adapted(layer)), None)
        if first is None:
            return self._below
        if self._below is None or first < self._below:
            self._below, self._room = first, self._most
            self._states.clear()
        return self._below

    @contextmanager
    def _remembering(self, layer: nn.Module, batch: tuple[torch.Size, bytes]) -> Iterator[None]:
        def remember(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if inputs[0].nbytes <= self._room:
                self._room -= inputs[0].nbytes
                with torch.inference_mode(False):  # what is remembered while scoring serves a training, too
                    self._states[batch] = inputs[0].detach().to("cpu", copy=True)

        with layer.register_forward_pre_hook(remember):
            yield


def _is_adapted(layer: nn.Module) -> bool:
    return any(isinstance(part, BaseTunerLayer) for part in layer.modules())


@contextmanager
def layers_replaced(decoder: Any, layers: Iterable[nn.Module]) -> Iterator[None]:
    """Forward passes inside go through these layers alone; states may take the place of embeddings."""
    own = decoder.layers
    decoder.layers = nn.ModuleList(layers)
    try:
        yield
    finally:
        decoder.layers = own
