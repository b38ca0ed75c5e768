"""A random Llama, small enough for tests of adapters alone; it has no tokenizer."""

import torch
from peft import get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from reclora_kedro.adapters.base_llm import describe_base_llm
from reclora_kedro.adapters.reclora import RecLoraConfig


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


def with_random_adapter(model, std, **settings):
    """The model with a personalized LoRA that is not zero, in eval mode."""
    config = RecLoraConfig(task_type="CAUSAL_LM", base_llm=describe_base_llm(model), **settings)
    adapted = get_peft_model(model, config).eval()
    for name, weights in adapted.named_parameters():
        if "reclora_B" in name:
            torch.nn.init.normal_(weights, std=std)
    return adapted
