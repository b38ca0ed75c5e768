"""Causal attention as matrix products, for bfloat16 on a CPU, where torch's own kernel is several times slower."""

from typing import Any

import torch
from torch import Tensor, nn

ATTENTION = "reclora_causal"  # name of `causal_attention` in transformers' registry of attention functions

PLAIN_MODELS = ("llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3")
"""Architectures with plain causal attention: each token attends to all earlier ones, or to those in a window."""

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
