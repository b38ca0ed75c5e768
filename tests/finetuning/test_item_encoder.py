"""Tuning of a tiny random encoder on texts that belong together by pairs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from random_encoder import save_random_encoder
from reclora_kedro.datasets.folders import ItemEncoderDataset
from reclora_kedro.finetuning.config import EncoderTuningConfig
from reclora_kedro.finetuning.item_encoder import info_nce, tune_encoder
from reclora_kedro.history.item_pairs import TextPairs
from reclora_kedro.llm.language_model import load_language_model
from reclora_kedro.llm.sentence_encoder import embed_texts, load_sentence_encoder

TEXTS = [*"abcdefghij", "a [SEP] c"]
PAIRS = TextPairs(TEXTS, np.arange(10).reshape(5, 2), np.arange(10).reshape(5, 2)[::-1].copy())


@pytest.fixture
def encoder(tmp_path: Path):
    save_random_encoder(tmp_path, TEXTS[:10])
    return load_sentence_encoder(str(tmp_path), device="cpu")


def config(**changes: object) -> EncoderTuningConfig:
    settings = {
        "base": "sentence_encoder", "layers": None, "lora_rank": None,
        "batch_size": 8, "max_steps": 12, "learning_rate": 0.01,
        "steps_per_validation": 4, "seed": 0,
    }  # fmt: skip
    return EncoderTuningConfig(**settings).model_copy(update={"patience": 3} | changes)


def vectors(encoder):
    return embed_texts(encoder, ["", *TEXTS], max_tokens=8, tokens_per_batch=99)


def test_tuning_brings_pairs_together_and_the_same_seed_to_the_same_weights(encoder, tmp_path):
    before = vectors(encoder)
    tuned, log = tune_encoder(encoder, PAIRS, config(), max_tokens=8)
    assert [(record["step"], record["pairs"]) for record in log] == [(0, 0), (4, 20), (8, 40), (12, 60)]
    assert log[-1]["validation_loss"] < log[0]["validation_loss"] - 0.5
    assert log[-1]["validation_auc"] > log[0]["validation_auc"]
    assert [record["loss"] is None for record in log] == [True, False, False, False]
    np.testing.assert_array_equal(vectors(encoder), before)
    again, _ = tune_encoder(encoder, PAIRS, config(), max_tokens=8)
    np.testing.assert_array_equal(vectors(again), vectors(tuned))
    np.testing.assert_array_equal(vectors(tuned)[0], np.zeros(8))  # an item without a text


def test_the_weights_of_the_best_validation_are_kept_the_encoders_own_among_them(encoder, caplog):
    other = np.array([[0, 3], [2, 1], [4, 7], [6, 5]])  # what training on the pairs drives apart
    encoder, _ = tune_encoder(encoder, TextPairs(TEXTS, other, other), config(max_steps=30, patience=9), max_tokens=8)
    tuned, log = tune_encoder(encoder, TextPairs(TEXTS, PAIRS.training, other), config(patience=1), max_tokens=8)
    assert [record["step"] for record in log] == [0, 4]
    np.testing.assert_array_equal(vectors(tuned), vectors(encoder))
    assert "its weights stay as they were. Lower item_encoder.learning_rate" in caplog.text


def test_a_saved_encoder_has_the_same_vectors_in_the_layout_of_sentence_transformers(encoder, tmp_path):
    tuned, _ = tune_encoder(encoder, PAIRS, config(max_steps=1, steps_per_validation=1), max_tokens=8)
    dataset = ItemEncoderDataset(filepath=str(tmp_path / "tuned"), device="cpu")
    dataset.save(tuned)
    np.testing.assert_array_equal(vectors(dataset.load()), vectors(tuned))
    assert {path.relative_to(tmp_path / "tuned").as_posix() for path in (tmp_path / "tuned").rglob("*.*")} == {
        "1_Pooling/config.json", "config.json", "model.safetensors", "modules.json", "sentence_bert_config.json",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip


def test_a_lora_of_an_llms_lower_layers_is_merged_into_them(tiny_llm_folder, tmp_path):
    llm = load_language_model(str(tiny_llm_folder), dtype="float32", device="cpu")
    weights = {name: weight.clone() for name, weight in llm.model.state_dict().items()}
    tuned, _ = tune_encoder(llm, PAIRS, config(layers=1, lora_rank=2, max_steps=8), max_tokens=8)
    changed = {name for name, weight in tuned.model.state_dict().items() if not weight.equal(weights[f"model.{name}"])}
    assert changed
    assert all("proj" in name and name.startswith("layers.0.") for name in changed)
    assert all(weight.equal(llm.model.state_dict()[name]) for name, weight in weights.items())
    dataset = ItemEncoderDataset(filepath=str(tmp_path / "tuned"), device="cpu")
    dataset.save(tuned)
    np.testing.assert_array_equal(vectors(dataset.load())[1:], vectors(tuned)[1:])
    with pytest.raises(ValueError, match=r"item_encoder\.layers is 9, but .* has 2: lower it"):
        tune_encoder(llm, PAIRS, config(layers=9), max_tokens=8)


def test_pairs_that_share_a_text_are_none_of_each_others_negatives(encoder):
    token_ids = encoder.tokenize(TEXTS, 8)
    alone, _ = info_nce(encoder, token_ids, np.array([[0, 1], [1, 2], [2, 0]]), 0.05)
    assert alone == 0
    both, auc = info_nce(encoder, token_ids, np.array([[0, 1], [2, 3]]), 0.05)
    a, b, c, d = torch.from_numpy(embed_texts(encoder, TEXTS[:4], 8, 99))
    cosines = torch.stack([a, c]) @ torch.stack([b, d]).T / 0.05
    own = torch.tensor([0, 1])
    expected = sum(torch.nn.functional.cross_entropy(side, own) for side in (cosines, cosines.T)) / 2
    torch.testing.assert_close(both, expected)
    assert auc == (int(cosines[0, 1] < cosines[0, 0]) + int(cosines[1, 0] < cosines[1, 1])) / 2


def test_a_loss_that_is_not_finite_is_refused_with_its_step(encoder):
    encoder.model.embeddings.word_embeddings.weight[4] = torch.nan  # of a text that is in no validation pair
    pairs = TextPairs(TEXTS, PAIRS.training, PAIRS.training[1:])
    with pytest.raises(FloatingPointError, match=r"training loss .* is nan at step 1 of 12: lower item_encoder\.learn"):
        tune_encoder(encoder, pairs, config(), max_tokens=8)
