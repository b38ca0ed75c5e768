"""Which base LLM and gate inputs an adapter was made for, and how others are refused."""

import json
import time

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from few_rows import adapter_weights, gate_inputs_of
from kedro_provenance.errors import MismatchError
from random_llama import random_llama
from reclora_kedro.adapters.base_llm import describe_base_llm
from reclora_kedro.adapters.methods import load_adapter, new_adapter
from reclora_kedro.adapters.reclora.settings import RecLoraSettings
from reclora_kedro.llm.language_model import LanguageModel, load_language_model


def fresh_adapter(llm, **settings):
    config = RecLoraSettings(**{"num_meta_loras": 3, "r": 2, "gate_hidden_dim": 8, **settings})
    return new_adapter(llm.model, config, gate_inputs_of(torch.randn(9, 6), "user"), seed=0)


def save_adapter(llm, folder, **settings):
    """A fresh adapter's folder; the base LLM is left bare."""
    adapted = fresh_adapter(llm, **settings)
    adapted.save_pretrained(folder)
    return adapted.unload()


def test_making_an_adapter_reads_and_changes_no_global_randomness(tiny_llm):
    weights = []
    for seed in (5, 6):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        adapted = new_adapter(
            tiny_llm.model, RecLoraSettings(num_meta_loras=3), gate_inputs_of(torch.ones(9, 6)), seed=0
        )
        assert torch.equal(torch.get_rng_state(), before)
        weights.append(adapter_weights(adapted))
        adapted.unload()
    first, second = weights
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_adapter_knows_its_base_llm_in_any_precision_and_folder(tiny_llm, tmp_path):
    save_adapter(tiny_llm, tmp_path / "adapter", last_layers=1)
    for dtype in ("float32", "bfloat16", "float16"):
        tiny_llm.model.to(getattr(torch, dtype)).save_pretrained(tmp_path / dtype)
        tiny_llm.tokenizer.save_pretrained(tmp_path / dtype)
        llm = load_language_model(str(tmp_path / dtype), dtype=dtype, device="cpu")
        loaded = load_adapter(llm.model, str(tmp_path / "adapter"), "user", 6)
        assert loaded.active_peft_config.num_meta_loras == 3
        assert not loaded.training


def test_another_base_llm_is_refused_by_name(tiny_llm, tiny_llm_folder, tmp_path):
    save_adapter(tiny_llm, tmp_path)
    with torch.no_grad():
        tiny_llm.model.get_decoder().norm.weight[3] += 0.5
    message = rf"trained on the base LLM '{tiny_llm_folder.name}'.*but got.*source"
    with pytest.raises(MismatchError, match=message) as raised:
        load_adapter(tiny_llm.model, str(tmp_path))
    assert raised.value.entries == ("adapter",)


@pytest.mark.parametrize(("module", "row"), [("model.layers.1.mlp.up_proj", slice(None)), ("lm_head", 41)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_merged_lora_of_rank_one_on_one_layer_makes_another_base_llm(module, row, dtype, tmp_path):
    plain = random_llama(2).to(dtype)
    save_adapter(LanguageModel(plain, None, "", {}), tmp_path)
    load_adapter(random_llama(2).to(dtype), str(tmp_path))
    lora = get_peft_model(random_llama(2), LoraConfig(r=1, target_modules=[module]))
    B = lora.get_submodule(f"base_model.model.{module}").lora_B["default"].weight
    with torch.no_grad():
        B[row] = 0.02
    merged = lora.merge_and_unload().to(dtype)
    with pytest.raises(MismatchError, match=r"was trained on the base LLM .*weights [0-9a-f]{12}.*train the adapter"):
        load_adapter(merged, str(tmp_path))


def test_a_quantised_base_llm_is_known_by_its_norms(tmp_path):
    save_adapter(LanguageModel(random_llama(2), None, "", {}), tmp_path)
    quantised = random_llama(2)
    head = quantised.lm_head
    head.weight = torch.nn.Parameter(head.weight.detach().mul(100).to(torch.int8), requires_grad=False)
    assert describe_base_llm(quantised)["precision"] == "quantised"
    load_adapter(quantised, str(tmp_path))


def test_an_adapter_that_does_not_say_which_weights_it_needs_is_refused(tiny_llm, tmp_path):
    base = save_adapter(tiny_llm, tmp_path)
    file = tmp_path / "adapter_config.json"
    config = json.loads(file.read_text())
    for old in ({"name": "tiny", "fingerprint": "0" * 64}, None):
        file.write_text(json.dumps(config | {"base_llm": old}))
        with pytest.raises(MismatchError, match=r"does not record the weights .* train it again") as raised:
            load_adapter(base, str(tmp_path))
        assert raised.value.entries == ("adapter",)


def test_a_digest_of_135_million_weights_takes_well_under_a_second():
    with torch.device("meta"):
        config = LlamaConfig(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, vocab_size=49152)
        model = LlamaForCausalLM(config).bfloat16()
    model = model.to_empty(device="cpu")
    started = time.process_time()
    describe_base_llm(model)
    assert time.process_time() - started < 1


def gemma(weight, **settings):
    config = GemmaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, head_dim=8, num_attention_heads=2,
        num_key_value_heads=1, **settings,
    )  # fmt: skip
    torch.manual_seed(0)
    model = GemmaForCausalLM(config)
    torch.nn.init.constant_(model.model.norm.weight, weight)
    return model


def test_norms_around_zero_tell_base_llms_apart():
    first, same, other = (describe_base_llm(model) for model in (gemma(0.1), gemma(0.1).bfloat16(), gemma(0.11)))
    assert first == same
    assert first["norms"] != other["norms"]


def test_biases_tell_base_llms_apart_whose_norms_have_no_weights():
    models = []
    for bias in (0.1, 0.1, 0.2):
        config = GPTNeoXConfig(
            vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
        )
        models.append(GPTNeoXForCausalLM(config))
        for module in models[-1].modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight = None
                torch.nn.init.constant_(module.bias, bias)
    first, same, other = (describe_base_llm(model)["norms"] for model in models)
    assert first == same != other


@pytest.mark.parametrize(("name", "width"), [("target", 6), ("user", 7), ("rating_statistics", 11)])
def test_other_gate_inputs_are_refused_by_name_and_width(tiny_llm, tmp_path, name, width):
    base = save_adapter(tiny_llm, tmp_path)
    message = f"trained on the gate input 'user' of width 6, but got '{name}' of width {width}"
    with pytest.raises(MismatchError, match=message) as raised:
        load_adapter(base, str(tmp_path), name, width)
    assert raised.value.entries == ("gate_inputs", "adapter")
    assert load_adapter(base, str(tmp_path)).active_peft_config.gate_input == "user"


def test_a_shared_lora_takes_any_gate_inputs(tiny_llm, tmp_path):
    base = save_adapter(tiny_llm, tmp_path, num_meta_loras=1)
    assert load_adapter(base, str(tmp_path), "target", 7).active_peft_config.num_meta_loras == 1


@pytest.mark.parametrize("name", ["query", "proj"])
def test_an_unknown_target_module_is_refused_with_the_names_there_are(tiny_llm, name):
    with pytest.raises(ValueError, match=rf"names {name}, which.*q_proj"):
        fresh_adapter(tiny_llm, target_modules=["q_proj", name])


def adapted_modules(model):
    """Paths of the adapted layers, from the number of their transformer layer on."""
    return {
        name.partition(".layers.")[2].partition(".reclora_")[0]
        for name, _ in model.named_parameters()
        if "reclora_A" in name
    }


def test_a_regular_expression_chooses_target_modules(tiny_llm):
    adapted = fresh_adapter(tiny_llm, target_modules=r".*\.1\..*(q|o)_proj")
    assert adapted_modules(adapted) == {"1.self_attn.q_proj", "1.self_attn.o_proj"}
    with pytest.raises(ValueError, match=r"target_modules names .*query, which the base LLM lacks in its decoder"):
        fresh_adapter(adapted.unload(), target_modules=r".*query")


@pytest.mark.parametrize(
    ("target", "found"),
    [
        (["lm_head"], "names lm_head, which the base LLM lacks in its decoder"),
        (["embed_tokens"], "has as model.embed_tokens, which is not a linear layer"),
        (["q_proj", "self_attn"], "has as model.layers.0.self_attn, which is not a linear layer"),
        (".*self_attn", "has as model.layers.0.self_attn, which is not a linear layer"),
    ],
)
def test_an_adapter_is_put_on_linear_layers_in_blocks_alone(tiny_llm, target, found):
    with pytest.raises(
        ValueError, match=f"{found}.*its linear layers are down_proj, gate_proj, k_proj, o_proj, q_proj"
    ):
        fresh_adapter(tiny_llm, target_modules=target)
