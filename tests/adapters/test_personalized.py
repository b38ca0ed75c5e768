"""Which base LLM, lens and layout an adapter was made for, and how another one is refused."""

import json

import pytest
import torch
from transformers import GemmaConfig, GemmaForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM

from reclora_kedro.adapters.personalized import AdapterConfig, describe_base_llm, load_adapter, new_adapter
from reclora_kedro.llm.language_model import load_language_model


def adapter_config(**settings):
    return AdapterConfig(
        **{
            "num_meta_loras": 3,
            "r": 2,
            "lora_alpha": 4,
            "target_modules": ("q_proj", "v_proj"),
            "last_layers": 1,
            "composition": "product_of_sums",
            "gate_input": "user",
            "gate_hidden_dim": 8,
            "gate_dropout": 0.0,
            "state_norm": "standard",
            "temperature": 1.0,
            **settings,
        }
    )


def save_adapter(llm, folder, **settings):
    """A fresh adapter's folder; the base LLM is left bare."""
    adapted = new_adapter(llm.model, adapter_config(**settings), torch.randn(9, 6), seed=0)
    adapted.save_pretrained(folder)
    return adapted.unload()


def change_config(folder, **changes):
    file = folder / "adapter_config.json"
    config = {name: value for name, value in (json.loads(file.read_text()) | changes).items() if value is not ...}
    file.write_text(json.dumps(config))


def test_an_adapter_knows_its_base_llm_in_any_precision_and_folder(tiny_llm, tiny_llm_folder, tmp_path):
    save_adapter(tiny_llm, tmp_path / "adapter")
    for dtype in ("float32", "bfloat16", "float16"):
        tiny_llm.model.to(getattr(torch, dtype)).save_pretrained(tmp_path / dtype)
        tiny_llm.tokenizer.save_pretrained(tmp_path / dtype)
        llm = load_language_model(str(tmp_path / dtype), dtype=dtype, device="cpu")
        assert load_adapter(llm.model, str(tmp_path / "adapter"), lens_dim=6).active_peft_config.num_meta_loras == 3


def test_another_base_llm_is_refused_by_name(tiny_llm, tiny_llm_folder, tmp_path):
    save_adapter(tiny_llm, tmp_path)
    with torch.no_grad():
        tiny_llm.model.get_decoder().norm.weight[3] += 0.5
    with pytest.raises(ValueError, match=rf"trained on the base LLM '{tiny_llm_folder.name}'.*but got.*source"):
        load_adapter(tiny_llm.model, str(tmp_path))


def gemma(weight, **settings):
    config = GemmaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, head_dim=8, num_attention_heads=2,
        num_key_value_heads=1, **settings,
    )  # fmt: skip
    model = GemmaForCausalLM(config)
    torch.nn.init.constant_(model.model.norm.weight, weight)
    return model


def test_norms_around_zero_tell_base_llms_apart():
    assert describe_base_llm(gemma(0.1)) == describe_base_llm(gemma(0.1).bfloat16())
    assert describe_base_llm(gemma(0.1)) != describe_base_llm(gemma(0.11))


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
    first, same, other = map(describe_base_llm, models)
    assert first == same != other


@pytest.mark.parametrize(
    ("changes", "missing"),
    [({"state_norm": ...}, "state_norm"), ({"state_norm": ..., "gate_scope": ...}, "state_norm and no gate_scope")],
)
def test_an_adapter_of_an_earlier_version_is_refused(tiny_llm, tmp_path, changes, missing):
    base = save_adapter(tiny_llm, tmp_path)
    change_config(tmp_path, **changes)
    with pytest.raises(ValueError, match=rf"has no {missing}: it was saved by an earlier version.*Train it again"):
        load_adapter(base, str(tmp_path))


def test_lens_states_of_another_width_are_refused(tiny_llm, tmp_path):
    base = save_adapter(tiny_llm, tmp_path)
    with pytest.raises(ValueError, match=r"width 6 \(gate_input user\), but these are 7 wide"):
        load_adapter(base, str(tmp_path), lens_dim=7)


def test_a_shared_lora_takes_lens_states_of_any_width(tiny_llm, tmp_path):
    base = save_adapter(tiny_llm, tmp_path, num_meta_loras=1, lens_prior=True)
    assert load_adapter(base, str(tmp_path), lens_dim=7).lens_weight == 1


@pytest.mark.parametrize(("routing", "top_k"), [("top_k", None), ("soft", 2), ("top_k", 4), ("top_k", 0)])
def test_a_top_k_that_does_not_fit_is_refused_before_anything_is_loaded(routing, top_k):
    with pytest.raises(ValueError, match="top_k is"):
        adapter_config(routing=routing, top_k=top_k)


def test_a_lens_prior_and_an_average_at_once_are_refused():
    with pytest.raises(ValueError, match="lens_prior and lens_average are both true"):
        adapter_config(lens_prior=True, lens_average=True)
