import json

import gguf
import pytest
import torch

from reclora_kedro.llm import language_model
from reclora_kedro.llm.language_model import load_language_model, outline_language_model, quantization_config


def test_a_base_llm_is_frozen_and_in_eval_mode(tiny_llm):
    assert not tiny_llm.model.training
    assert not any(weights.requires_grad for weights in tiny_llm.model.parameters())
    assert tiny_llm.context_tokens == 1024


def test_last_hidden_states_are_those_of_the_model(tiny_llm):
    ids = torch.tensor([[5, 6, 7, 8]])
    expected = tiny_llm.model(input_ids=ids, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(tiny_llm.last_hidden_states(ids), expected)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no/such/folder", r"'no/such/folder' could not be loaded.*`base_llm`"),
        ("missing.gguf", r"no GGUF file missing.gguf.*`base_llm`"),
    ],
)
def test_a_missing_base_llm_is_refused_by_name(source, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=f"(?s){message}"):
        load_language_model(source)


@pytest.mark.parametrize("load", [load_language_model, outline_language_model])
def test_a_folder_of_versions_is_refused_with_the_newest_one(tiny_llm, tmp_path, load):
    for version in ("2026-11-01", "2026-11-02"):
        (folder := tmp_path / version / "prepared_llm").mkdir(parents=True)
        tiny_llm.save(folder)
    with pytest.raises(FileNotFoundError, match=r"no config.json, but 2026-11-01, 2026-11-02\. .*11-02/prepared_llm\."):
        load(str(tmp_path))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"(?s)prepared_llm has no tokenizer\.json, .* `base_llm`"):
        load(str(folder))


def test_a_folder_with_pickled_weights_only_is_refused(tiny_llm, tmp_path):
    tiny_llm.model.config.save_pretrained(tmp_path)
    tiny_llm.tokenizer.save_pretrained(tmp_path)
    torch.save(tiny_llm.model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="safetensors"):
        load_language_model(str(tmp_path))


GPU = torch.device("cuda")


def test_weights_are_quantised_as_the_papers_do(monkeypatch):
    monkeypatch.setattr(language_model, "find_spec", lambda name: name)
    assert quantization_config(None, torch.bfloat16, GPU) is None
    assert quantization_config("8bit", torch.bfloat16, GPU).load_in_8bit
    four = quantization_config("4bit", torch.bfloat16, GPU)
    assert (four.load_in_4bit, four.bnb_4bit_quant_type, four.bnb_4bit_use_double_quant) == (True, "nf4", True)
    assert four.bnb_4bit_compute_dtype == torch.bfloat16


def test_quantisation_that_is_not_possible_is_refused_with_the_way_out(tiny_llm_folder, monkeypatch):
    with pytest.raises(ValueError, match="is '4bits'; expected 8bit, 4bit or null"):
        quantization_config("4bits", torch.bfloat16, GPU)
    with pytest.raises(ValueError, match=r"needs an NVIDIA GPU, but .* device cpu: set quantization to null"):
        load_language_model(str(tiny_llm_folder), device="cpu", quantization="8bit")
    monkeypatch.setattr(language_model, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs bitsandbytes: `pip install 'bitsandbytes>="):
        quantization_config("8bit", torch.bfloat16, GPU)


def test_the_arguments_of_an_llm_load_the_same_again(tiny_llm):
    again = load_language_model(**tiny_llm.arguments)
    assert again.arguments == tiny_llm.arguments
    assert all(torch.equal(*pair) for pair in zip(again.model.parameters(), tiny_llm.model.parameters(), strict=True))


@pytest.mark.parametrize(("device", "on_gpu"), [("auto", "auto"), ("cpu", "cpu")])
def test_a_gpu_of_another_process_is_used_unless_the_cpu_was_requested(tiny_llm_folder, device, on_gpu):
    llm = load_language_model(str(tiny_llm_folder), device=device)  # on a CPU, where this machine has no GPU
    assert llm.loader(on_gpu=True).keywords["device"] == on_gpu
    assert llm.loader(on_gpu=False).keywords["device"] == "cpu"


def write_gguf(llm, file):
    """A Llama and its tokenizer as llama.cpp's converter would write them, with blocks of 8 bits."""
    config, layers = llm.model.config, llm.model.config.num_hidden_layers
    writer, names = gguf.GGUFWriter(file, "llama"), gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, layers)
    writer.add_block_count(layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, weights in llm.model.state_dict().items():
        array, module = weights.numpy(), name.split(".")[-2]
        if module in heads:  # its rotary halves lie side by side
            array = array.reshape(heads[module], 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        kind = gguf.GGMLQuantizationType.Q8_0 if array.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(names.get_name(name, (".weight",)), gguf.quantize(array, kind), raw_dtype=kind)
    tokenizer = json.loads(llm.tokenizer.backend_tokenizer.to_str())
    special = {token["content"] for token in tokenizer["added_tokens"]}
    vocabulary = sorted(llm.tokenizer.get_vocab(), key=llm.tokenizer.get_vocab().get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if token in special else 1 for token in vocabulary])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(llm.tokenizer.eos_token_id)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_is_dequantised_once_and_found_again_by_its_content(tiny_llm, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    write_gguf(tiny_llm, tmp_path / "tiny.gguf")
    first = load_language_model(str(tmp_path / "tiny.gguf"), dtype="float32", device="cpu")
    [folder] = (tmp_path / "kedro-provenance").glob("tiny-*")
    written = folder.stat().st_mtime_ns
    second = load_language_model(str(tmp_path / "tiny.gguf"), dtype="float32", device="cpu")
    assert folder.stat().st_mtime_ns == written
    assert "%|" not in capfd.readouterr().err  # a bar
    text = "A user liked: Drama Film 7 (1990). Yes or No?<|im_end|>"
    assert first.tokenizer(text)["input_ids"] == tiny_llm.tokenizer(text)["input_ids"]
    for name, weights in tiny_llm.model.state_dict().items():
        loaded, again = (llm.model.state_dict()[name] for llm in (first, second))
        assert torch.equal(loaded, again)
        torch.testing.assert_close(loaded, weights, atol=weights.abs().max().item() / 127, rtol=0)
