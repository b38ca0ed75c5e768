"""Sentence encoders, from a tiny random one in the layout of sentence-transformers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from random_encoder import save_random_encoder
from reclora_kedro.datasets.sentence_encoder import SentenceEncoderDataset
from reclora_kedro.llm.embedding import embed_texts
from reclora_kedro.llm.sentence_encoder import load_sentence_encoder

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


def test_a_file_in_the_folder_names_the_folder(folder) -> None:
    by_file, by_folder = (load_sentence_encoder(str(path), device="cpu") for path in (folder / "config.json", folder))
    assert all(
        torch.equal(weight, by_folder.model.state_dict()[name]) for name, weight in by_file.model.state_dict().items()
    )
    assert not by_file.model.training


def test_weights_other_than_safetensors_are_refused(folder) -> None:
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"could not be loaded.*\n.*\*\.safetensors weights"):
        load_sentence_encoder(str(folder), device="cpu")


def test_an_unknown_pooling_is_refused(folder) -> None:
    set_pooling(folder, pooling_mode_max_tokens=True)
    with pytest.raises(ValueError, match="pools by pooling_mode_max_tokens; expected one of pooling_mode_mean_tokens"):
        load_sentence_encoder(str(folder), device="cpu")


def test_the_dataset_loads_and_never_saves(folder) -> None:
    dataset = SentenceEncoderDataset(source=str(folder), device="cpu")
    assert dataset.load().width == 8
    with pytest.raises(Exception, match="read only"):
        dataset.save("an encoder")
