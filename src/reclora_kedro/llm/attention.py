"""A base LLM's layers on plain prompts: fast attention, and cached states of the layers below an adapter.

Causal attention as matrix products is for bfloat16 on a CPU, where torch's own kernel is several times slower.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

ATTENTION = "reclora_causal"  # name of `causal_attention` in transformers' registry of attention functions

PLAIN_MODELS = ("llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3")
"""Architectures with plain causal attention: each token attends to all earlier ones, or to those in a window."""

DROPOUTS = ("attention_dropout", "resid_pdrop", "embd_pdrop")
"""Configuration settings that make layers random in training."""

QUERIES_AT_ONCE = 64  # queries per block: its scores fit in a core's cache, and keys after the block are skipped


def causal_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Compute attention for transformers: (batch, heads, tokens, dim) to (batch, tokens, heads, dim).

    Calls with masks, cached keys, other devices or other types go to torch instead of :func:`attend_in_blocks`.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    whole = attention_mask is None and query.shape[2] == key.shape[2]
    if not whole or query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    return attend_in_blocks(query, key, value, query.shape[-1] ** -0.5 if scaling is None else scaling), None


def attend_in_blocks(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """Compute causal attention one block of queries at a time.

    From `query`, (batch, heads, tokens, dim), and `key` and `value`, (batch, key-value heads, tokens, dim), to
    (batch, tokens, heads, dim). The query heads of a key-value head are stacked as further queries, so that keys are
    not copied.
    """
    (batch, heads, tokens, dim), kv_heads = query.shape, key.shape[1]
    group = heads // kv_heads
    queries = query.reshape(batch * kv_heads, group, tokens, dim)
    keys, values = key.reshape(-1, tokens, dim), value.reshape(-1, tokens, dim)
    blocks = []
    for start in range(0, tokens, QUERIES_AT_ONCE):
        end = min(tokens, start + QUERIES_AT_ONCE)
        mask = torch.full((end - start, end), -torch.inf, dtype=query.dtype).triu(1 + start).repeat(group, 1)
        block, visible = queries[:, :, start:end].flatten(1, 2), keys[:, :end]
        scores = torch.baddbmm(mask.expand(len(keys), -1, -1), block, visible.mT, alpha=scaling)
        blocks.append((scores.softmax(-1) @ values[:, :end]).view(batch, heads, end - start, dim))
    return torch.cat(blocks, dim=2).transpose(1, 2)


def attends_to_all_before(model: Any, tokens: int | None = None) -> bool:
    """Whether each token attends to all earlier ones in prompts of `tokens` tokens (None: of any length)."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    return config.model_type in PLAIN_MODELS and (window is None or (tokens is not None and tokens <= window))


def use_causal_attention(model: Any) -> None:
    """Let a model attend by `causal_attention`."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(ATTENTION, causal_attention)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    model.set_attn_implementation(ATTENTION)


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
