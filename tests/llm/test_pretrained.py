"""Of what lies in a model's folder only data is read, whatever the folder says and a user answers."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from reclora_kedro.llm.language_model import load_language_model, outline_language_model
from reclora_kedro.llm.pretrained import load_pretrained
from reclora_kedro.llm.sentence_encoder import load_sentence_encoder

CODE = """
from pathlib import Path
Path({marker!r}).write_text("the code was run")
from transformers import LlamaConfig as Config, LlamaForCausalLM as Model, PreTrainedTokenizerFast as Tokens
"""
AUTO_MAP = {
    "AutoConfig": "code.Config",
    "AutoModel": "code.Model",
    "AutoModelForCausalLM": "code.Model",
    "AutoTokenizer": ["code.Tokens", "code.Tokens"],
}


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """What the code of the folder would write; every question is answered with yes."""
    monkeypatch.setattr("builtins.input", lambda *question: "y")
    marker = tmp_path / "marker"
    yield marker
    assert not marker.exists()


@pytest.fixture
def folder(tiny_llm_folder, tmp_path, marker):
    """The tiny LLM, with code beside it that its configuration names."""
    folder = shutil.copytree(tiny_llm_folder, tmp_path / "llm")
    (folder / "code.py").write_text(CODE.format(marker=str(marker)))
    return folder


def change(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize("load", [load_language_model, load_sentence_encoder])
def test_a_model_that_needs_its_own_code_is_refused(folder, load):
    change(folder / "config.json", auto_map=AUTO_MAP, model_type="its_own")
    with pytest.raises(ValueError, match=r"needs Python code .* which this project never runs\. Change `source`"):
        load(str(folder), device="cpu")


@pytest.mark.parametrize("kind", [AutoTokenizer, AutoModelForCausalLM])
def test_transformers_own_classes_come_first(folder, kind):
    for name in ("config.json", "tokenizer_config.json"):
        change(folder / name, auto_map=AUTO_MAP)
    assert type(load_pretrained(kind, str(folder))).__module__.startswith("transformers.")


@pytest.mark.parametrize(
    ("kind", "tokenizer", "message"),
    [
        (AutoTokenizer, {"auto_map": AUTO_MAP, "tokenizer_class": "ItsOwn"}, "which this project never runs"),
        (AutoModelForCausalLM, {}, "its_own"),
    ],
    ids=["a tokenizer that needs its own code", "another fault, whose message stays"],
)
def test_an_unknown_type_of_model_is_refused(folder, kind, tokenizer, message):
    change(folder / "tokenizer_config.json", **tokenizer)
    change(folder / "config.json", model_type="its_own")
    with pytest.raises(ValueError, match=message):
        load_pretrained(kind, str(folder))


@pytest.fixture(params=[load_language_model, outline_language_model, load_sentence_encoder])
def load(request):
    """Each way to load something that others have trained, from a folder to the CPU."""
    return lambda folder: request.param(str(folder), device="cpu")


class Pickled:
    """Writes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def pickle_weights(folder, marker, name):
    """Pickled weights as the only ones of a folder, which holds another safetensors file."""
    weights = load_file(folder / "model.safetensors")
    torch.save(weights | {"code": Pickled(marker)}, folder / name)
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    return dict.fromkeys(weights, name)


def test_an_index_of_pickled_weights_is_refused(folder, marker, load):
    weight_map = pickle_weights(folder, marker, "pytorch_model-00001-of-00001.bin")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    with pytest.raises(
        ValueError,
        match=r"read from pytorch_model-00001-of-00001\.bin \(model\.safetensors\.index\.json .* Expected \*\.safe",
    ):
        load(folder)


@pytest.mark.parametrize("elsewhere", ["../other.safetensors", "{}/other.safetensors"])
def test_an_index_of_weights_outside_the_folder_is_refused(folder, load, elsewhere):
    (folder / "model.safetensors").rename(folder.parent / "other.safetensors")
    name = elsewhere.format(folder.parent)
    weight_map = dict.fromkeys(load_file(folder.parent / "other.safetensors"), name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    with pytest.raises(ValueError, match=r"read from .*other\.safetensors .* not in its folder"):
        load(folder)


def test_an_index_for_pickled_weights_is_not_read(folder, marker, load):
    weight_map = pickle_weights(folder, marker, "weights.bin")
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    with pytest.raises(
        FileNotFoundError, match=r"no \*\.safetensors weights: neither model\.safetensors nor .*, but .*weights\.bin"
    ):
        load(folder)


def test_weights_that_a_configuration_names_are_safetensors(folder, marker, load):
    pickle_weights(folder, marker, "adapter_model.bin")
    (folder / "adapter_model.bin").rename(folder / "model.bin")
    change(folder / "config.json", transformers_weights="model.bin")
    with pytest.raises(ValueError, match=r"read from model\.bin"):
        load(folder)
    change(folder / "config.json", transformers_weights="other.safetensors")
    load(folder)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapter_beside_a_model_is_refused(folder, load, name):
    (folder / name).write_text("{}")
    with pytest.raises(ValueError, match=rf"files of an adapter \({name}\).* merge the adapter into its weights"):
        load(folder)


@pytest.mark.parametrize("setting", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("part", [lambda name: {name: "someone/kernel@main:forward"},
                                  lambda name: {name: {"": "paged|someone/kernel"}},
                                  lambda name: {"text_config": {name: "someone/kernel"}}])  # fmt: skip
def test_attention_of_the_hub_is_refused(folder, load, setting, part):
    change(folder / "config.json", **part(setting))
    with pytest.raises(ValueError, match=rf"{setting} in config\.json of .* code from the hub, which .* never runs"):
        load(folder)


def test_attention_of_transformers_own_may_be_chosen(folder, load):
    change(folder / "config.json", attn_implementation="sdpa")
    load(folder)


@pytest.mark.parametrize(("content", "message"), [("{", "not valid JSON"), ("[]", "holds a list; expected an object")])
def test_a_broken_configuration_is_refused_with_the_way_out(folder, load, content, message):
    (folder / "config.json").write_text(content)
    with pytest.raises(FileNotFoundError, match=rf"(?s){message}.*[Dd]ownload it again.*Change `source`"):
        load(folder)


def of_zero_heads(folder):
    change(folder / "config.json", num_attention_heads=0)


def of_other_sizes(folder):
    change(folder / "config.json", hidden_size=48)


def with_a_lying_header(folder):
    file = folder / "model.safetensors"
    file.write_bytes((2**40).to_bytes(8, "little") + file.read_bytes()[8:])


def with_half_a_tokenizer(folder):
    file = folder / "tokenizer.json"
    file.write_bytes(file.read_bytes()[:1000])


def with_weights(folder, change_weights):
    weights = load_file(folder / "model.safetensors")
    change_weights(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def with_infinite_weights(folder):
    with_weights(folder, lambda weights: weights["model.layers.0.mlp.up_proj.weight"][0].fill_(torch.inf))


def with_another_tokenizer(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["a token of another model"] = 7000
    (folder / "tokenizer.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (of_zero_heads, "llm"),
        (of_other_sizes, "llm"),
        (with_a_lying_header, "llm"),
        (with_half_a_tokenizer, "llm"),
        (with_infinite_weights, r"not finite numbers: (model\.)?layers\.0\.mlp\.up_proj"),
        (with_another_tokenizer, "makes 1 tokens that the model has no embedding of"),
    ],
)
def test_a_broken_folder_is_refused_by_name_before_anything_is_trained(folder, load, spoil, words):
    spoil(folder)
    with pytest.raises((ValueError, OSError), match=words):
        load(folder)
