"""Python code that lies beside weights is never run, whatever a folder says and a user answers."""

import json
import shutil

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from reclora_kedro.llm.language_model import load_language_model
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


def test_a_tokenizer_that_needs_its_own_code_is_refused(folder):
    change(folder / "tokenizer_config.json", auto_map=AUTO_MAP, tokenizer_class="ItsOwn")
    change(folder / "config.json", model_type="its_own")
    with pytest.raises(ValueError, match="which this project never runs"):
        load_pretrained(AutoTokenizer, str(folder))


def test_other_faults_keep_their_message(folder):
    change(folder / "config.json", model_type="its_own")
    with pytest.raises(ValueError, match="its_own"):
        load_pretrained(AutoModelForCausalLM, str(folder))
