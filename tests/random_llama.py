"""A random Llama, small enough for tests of adapters alone; it has no tokenizer."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM


def random_llama(layers: int) -> LlamaForCausalLM:
    """A Llama with 64 token ids, the same for every call."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).eval()
