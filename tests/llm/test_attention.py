"""Causal attention in blocks against torch's own."""

import pytest
import torch
from torch.nn import functional as F
from transformers import MistralConfig

from random_llama import random_llama
from reclora_kedro.llm.attention import attend_in_blocks, attends_to_all_before, use_causal_attention


def heads(tokens, dtype, heads=6, kv_heads=2, dim=8):
    torch.manual_seed(tokens)
    shapes = ((2, heads, tokens, dim), (2, kv_heads, tokens, dim), (2, kv_heads, tokens, dim))
    return [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]


def usual(query, key, value, scaling):
    states = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=True)
    return states.transpose(1, 2)


@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 150])
def test_blocks_change_neither_values_nor_gradients(tokens):
    parts = heads(tokens, torch.float64)
    found, expected = attend_in_blocks(*parts, 0.3), usual(*parts, 0.3)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    gradients = (torch.autograd.grad((states * weights).sum(), parts) for states in (found, expected))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_later_tokens_change_nothing_before_them():
    query, key, value = heads(100, torch.bfloat16)
    whole, start = attend_in_blocks(query, key, value, 0.3), (part[:, :, :70] for part in (query, key, value))
    torch.testing.assert_close(attend_in_blocks(*start, 0.3), whole[:, :70], atol=0, rtol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.02), (torch.float32, 1e-5)])
@pytest.mark.parametrize("padding", ["none", "left", "cache"])
@torch.no_grad()
def test_a_model_answers_as_with_torchs_attention(dtype, tolerance, padding):
    ids = torch.randint(0, 64, (2, 80), generator=torch.manual_seed(1))
    inputs = {"input_ids": ids}
    if padding == "left":
        inputs["attention_mask"] = (torch.arange(80) >= torch.tensor([[0], [30]])).long()
    logits = []
    for in_blocks in (True, False):
        model = random_llama(2).to(dtype)
        if in_blocks:
            use_causal_attention(model)
        else:
            model.set_attn_implementation("sdpa")
        if padding == "cache":
            cache = model(ids[:, :50], use_cache=True).past_key_values
            logits.append(model(ids[:, 50:], cache=cache).logits)
        else:
            logits.append(model(**inputs).logits[:, 40:])
    torch.testing.assert_close(*logits, atol=tolerance, rtol=tolerance)


def test_a_window_is_plain_only_for_prompts_within_it():
    model = random_llama(2)
    assert attends_to_all_before(model)
    model.config = MistralConfig(sliding_window=16)
    assert (attends_to_all_before(model), attends_to_all_before(model, 16), attends_to_all_before(model, 17)) == (
        False,
        True,
        False,
    )
