"""Base LLMs of many kinds, small and random: their scores are their own, with and without an adapter."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from few_rows import with_model
from reclora_kedro.adapters.methods import new_adapter
from reclora_kedro.adapters.reclora.settings import RecLoraSettings
from reclora_kedro.gate_inputs import GateInputs
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.language_model import LanguageModel, require_own_logits
from reclora_kedro.llm.prompt_set import PromptSet
from reclora_kedro.llm.prompts import PromptFormat
from reclora_kedro.llm.sentence_encoder import embed_texts, lower_layers

YES, NO, VOCABULARY = 5, 9, 64
LENGTHS = (2, 17, 9, 30)
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = SIZES | {"num_key_value_heads": 2, "max_position_embeddings": 128}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
STATE_SPACE = {
    "mamba_d_ssm": 32,
    "mamba_n_heads": 4,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
}

# By architecture: its settings, and the layers that `target_modules: auto` adapts.
ATTENTION = ["q_proj", "v_proj"]
ARCHITECTURES = {
    "llama": (GROUPED, ATTENTION),
    "mistral": (GROUPED | {"sliding_window": 8}, ATTENTION),
    "mixtral": (GROUPED | EXPERTS, ATTENTION),
    "qwen2": (GROUPED, ATTENTION),
    "qwen2_moe": (GROUPED | EXPERTS | {"shared_expert_intermediate_size": 16}, ATTENTION),
    "qwen3": (GROUPED | {"head_dim": 8}, ATTENTION),
    "qwen3_moe": (GROUPED | EXPERTS | {"head_dim": 8}, ATTENTION),
    "gemma": (GROUPED | {"head_dim": 8}, ATTENTION),
    "gemma2": (GROUPED | {"head_dim": 8, "final_logit_softcapping": 2.0, "sliding_window": 8}, ATTENTION),
    "gemma3_text": (GROUPED | {"head_dim": 8, "final_logit_softcapping": 2.0, "sliding_window": 8}, ATTENTION),
    "phi": (GROUPED, ATTENTION),
    "phi3": (GROUPED, ["qkv_proj"]),
    "olmo2": (GROUPED, ATTENTION),
    "smollm3": (GROUPED, ATTENTION),
    "granite": (GROUPED | {"logits_scaling": 8.0}, ATTENTION),
    "cohere": (GROUPED | {"logit_scale": 0.0625}, ATTENTION),
    "cohere2": (GROUPED | {"logit_scale": 0.25, "sliding_window": 8}, ATTENTION),
    "falcon": (SIZES, ["query_key_value"]),
    "falcon_h1": (GROUPED | STATE_SPACE | {"lm_head_multiplier": 0.1}, ATTENTION),
    "stablelm": (GROUPED, ATTENTION),
    "starcoder2": (GROUPED, ATTENTION),
    "gpt_neox": (SIZES | {"max_position_embeddings": 128}, ["query_key_value"]),
    "gptj": (SIZES | {"rotary_dim": 4}, ATTENTION),
    "gpt2": (SIZES, ["c_attn"]),
    "opt": (SIZES | {"ffn_dim": 48, "word_embed_proj_dim": 16, "max_position_embeddings": 128}, ATTENTION),
    "bloom": (SIZES, ["query_key_value"]),
    "mpt": (SIZES, ["Wqkv"]),
    "mamba": (SIZES, ["in_proj"]),
}


def random_model(architecture, **changes):
    """An LLM of this architecture whose answers are far from alike."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **ARCHITECTURES[architecture][0] | changes)
    model = AutoModelForCausalLM.from_config(config).requires_grad_(False).eval()
    torch.nn.init.normal_(model.get_output_embeddings().weight[1:])
    return AnswerModel(LanguageModel(model, None, "random", {}), PromptFormat([], "", "", YES, NO))


def random_prompts():
    random = np.random.default_rng(0)
    token_ids = [random.integers(3, VOCABULARY, length).tolist() for length in LENGTHS]
    rows, values = np.arange(len(LENGTHS)), random.normal(size=(len(LENGTHS), 3)).astype(np.float32)
    gate_inputs = GateInputs(torch.from_numpy(rows), "target", torch.from_numpy(values), torch.zeros(len(LENGTHS)))
    return PromptSet(rows, token_ids, np.array([0, 1, 0, 1]), gate_inputs)


@torch.inference_mode()
def scores_of_transformers(model, prompts):
    """One prompt at a time, without padding, by the model's own forward pass."""
    scores = []
    for row, ids in enumerate(prompts.token_ids):
        gate_inputs = None if prompts.gate_inputs is None else prompts.gate_inputs.take([row])
        with model.gate_context(gate_inputs):
            logits = model.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        scores.append(torch.softmax(logits[[YES, NO]].double(), 0)[0].item())
    return scores


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_are_those_of_transformers_without_padding(architecture):
    model, prompts = random_model(architecture), replace(random_prompts(), gate_inputs=None)
    require_own_logits(model.llm)
    scores = model.scores(prompts, 10_000, "")
    assert np.ptp(scores) > 1e-3
    np.testing.assert_allclose(scores, scores_of_transformers(model, prompts), atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_adapter_finds_its_layers_and_scores_as_transformers_does(architecture):
    model, prompts = random_model(architecture), random_prompts()
    before = model.scores(prompts, 10_000, "")
    config = RecLoraSettings(num_meta_loras=2, r=2, target_modules="auto", last_layers=1)
    adapted = new_adapter(model.model, config, prompts.gate_inputs, seed=0).eval()
    assert set(adapted.peft_config["default"].target_modules) == set(ARCHITECTURES[architecture][1])
    assert all(".1." in name for name, part in adapted.named_modules() if name.endswith("base_layer"))
    personalized = with_model(model, adapted)
    np.testing.assert_array_equal(personalized.scores(prompts, 10_000, ""), before)
    for name, weights in adapted.named_parameters():
        if "reclora_B" in name:
            torch.nn.init.normal_(weights)
    scores = personalized.scores(prompts, 10_000, "")
    assert np.abs(scores - before).max() > 1e-4
    np.testing.assert_allclose(scores, scores_of_transformers(personalized, prompts), atol=1e-5)


@pytest.mark.parametrize("composition", ["product_of_sums", "sum_of_products"])
@pytest.mark.parametrize(("architecture", "layer"), [("opt", "fc1"), ("qwen2_moe", "up_proj")])
def test_layers_that_read_the_tokens_of_all_prompts_in_one_row_are_personalized(architecture, layer, composition):
    model, prompts = random_model(architecture), random_prompts()
    config = RecLoraSettings(num_meta_loras=2, r=2, target_modules=[layer], composition=composition)
    adapted = new_adapter(model.model, config, prompts.gate_inputs, seed=0).eval()
    for name, weights in adapted.named_parameters():
        if "reclora_B" in name:
            torch.nn.init.normal_(weights)
    personalized = with_model(model, adapted)
    scores = personalized.scores(prompts, 10_000, "")
    np.testing.assert_allclose(scores, scores_of_transformers(personalized, prompts), atol=1e-5)


@pytest.fixture
def llm_that_sees():
    """A Gemma 3 with a vision tower, whose attention projections have the names of the decoder's."""
    torch.manual_seed(0)
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes = {"text_config": GROUPED | {"head_dim": 8, "sliding_window": 8}, "mm_tokens_per_image": 4}
    config = AutoConfig.for_model("gemma3", vision_config=vision | {"image_size": 28, "patch_size": 14}, **sizes)
    model = AutoModelForCausalLM.from_config(config).requires_grad_(False).eval()
    return LanguageModel(model, None, "random", {})


def test_of_an_llm_that_sees_the_decoder_alone_is_adapted(llm_that_sees):
    settings, gate_inputs = RecLoraSettings(num_meta_loras=2, r=2), random_prompts().gate_inputs
    adapted = new_adapter(llm_that_sees.model, settings, gate_inputs, seed=0)
    layers = {name.rpartition(".")[0] for name, part in adapted.named_modules() if name.endswith("base_layer")}
    decoder = "base_model.model.model.language_model.layers"
    assert layers == {f"{decoder}.{layer}.self_attn.{name}" for layer in range(2) for name in ATTENTION}
    with pytest.raises(ValueError, match=r"names .*vision_tower.*, which the base LLM lacks in its decoder"):
        new_adapter(adapted.unload(), replace(settings, target_modules=r".*vision_tower.*q_proj"), gate_inputs, seed=0)


def test_an_item_encoder_of_an_llm_that_sees_has_the_weights_of_its_decoder(llm_that_sees):
    encoder = lower_layers(llm_that_sees, 1)
    own = llm_that_sees.model.get_decoder().state_dict()
    assert all(torch.equal(weights, own[name]) for name, weights in encoder.model.state_dict().items())


@pytest.mark.parametrize("architecture", ["mamba", "falcon_h1", "qwen3"])
def test_an_item_encoder_has_the_lower_layers_also_where_their_types_follow_from_their_number(architecture):
    llm = random_model(architecture).llm
    encoder, own = lower_layers(llm, 1), llm.model.get_decoder().state_dict()
    assert len(encoder.model.layers) == 1 == len(encoder.model.config.layer_types)
    assert all(torch.equal(weights, own[name]) for name, weights in encoder.model.state_dict().items())


@pytest.mark.parametrize(
    ("architecture", "context"),
    [("gpt2", {"n_positions": 16}), ("mpt", {"max_seq_len": 16}), ("bloom", {}), ("mamba", {})],
)
def test_items_are_embedded_by_texts_up_to_the_context(architecture, context, tiny_llm):
    llm = replace(random_model(architecture, vocab_size=512, **context).llm, tokenizer=tiny_llm.tokenizer)
    for encoder in (llm, lower_layers(llm, 1)):
        encoder.model.eval()
        whole, cut = (embed_texts(encoder, ["Heat (1995), " * 9], most, 1000) for most in (99, 16))
        assert np.allclose(whole, cut, atol=1e-5) == bool(context)


def test_no_limit_of_the_context_is_made_up():
    assert random_model("gpt2", n_positions=64).llm.context_tokens == 64
    assert random_model("mpt", max_seq_len=96).llm.context_tokens == 96
    assert random_model("bloom").llm.context_tokens > 10**9


def test_a_head_that_is_not_known_is_refused_by_the_models_name():
    llm = random_model("llama").llm
    forward = llm.model.forward

    def scaled(**inputs):
        output = forward(**inputs)
        output.logits = 2 * output.logits
        return output

    llm.model.forward = scaled
    with pytest.raises(ValueError, match=r"'random' is a llama, whose logits differ by 50%.*`source`"):
        require_own_logits(llm)


def test_attention_that_is_not_causal_is_refused():
    torch.manual_seed(0)
    bert = AutoModelForCausalLM.from_config(AutoConfig.for_model("bert", **SIZES, is_decoder=False)).eval()
    with pytest.raises(ValueError, match="'random' is a bert"):
        require_own_logits(LanguageModel(bert, None, "random", {}))


def test_auto_refuses_a_model_without_known_projections():
    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.ModuleList([torch.nn.ModuleDict({"mixer": torch.nn.Linear(2, 2)})])

        def get_decoder(self):
            return self

    with pytest.raises(ValueError, match=r"auto, but none .* name some of mixer"):
        new_adapter(Odd(), RecLoraSettings(target_modules="auto"), random_prompts().gate_inputs, seed=0)
