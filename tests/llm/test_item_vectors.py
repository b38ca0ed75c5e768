"""Vectors of items that come later."""

import numpy as np
import pytest

from kedro_provenance.errors import MismatchError
from reclora_kedro.histories.item_text import ItemEmbeddingConfig
from reclora_kedro.llm import item_vectors
from reclora_kedro.llm.item_vectors import embed_items, embed_new_items

TEXTS = [f"{word} film {number}" for number, word in enumerate(["red", "blue", "green", "red", "blue", "grey", "red"])]


def config(*encoders):
    return ItemEmbeddingConfig(encoders=encoders, max_tokens=8, tokens_per_batch=64, components=3)


@pytest.fixture(autouse=True)
def read_by_letters(monkeypatch):
    """Texts become the counts of some letters."""
    monkeypatch.setattr(
        item_vectors,
        "embed_texts",
        lambda encoder, texts, *_: np.array([[text.count(letter) for letter in "rebdglu"] for text in texts], "f4"),
    )


@pytest.mark.parametrize("encoders", [("tfidf",), ("base_llm",), ("tfidf", "base_llm")])
def test_new_items_get_the_vectors_that_they_would_have_had_and_earlier_ones_keep_theirs(encoders):
    models, settings = dict.fromkeys(encoders), config(*encoders)
    before = embed_items(TEXTS, settings, models, seed=0)
    after = embed_new_items([*TEXTS, TEXTS[2], TEXTS[5]], TEXTS, before, settings, models)
    np.testing.assert_array_equal(after["embeddings"][: len(TEXTS)], before["embeddings"])
    np.testing.assert_allclose(after["embeddings"][len(TEXTS) :], before["embeddings"][[2, 5]], atol=1e-5)
    assert after["embeddings"].dtype == np.float32
    assert embed_new_items(TEXTS, TEXTS, before, settings, models) is before
    renamed = embed_new_items([TEXTS[1], *TEXTS[1:]], TEXTS, before, settings, models)["embeddings"]
    np.testing.assert_array_equal(renamed[1:], before["embeddings"][1:])
    np.testing.assert_allclose(renamed[0], before["embeddings"][1], atol=1e-5)


@pytest.mark.parametrize("other", [("base_llm",), ("base_llm", "tfidf"), ("tfidf", "base_llm", "co_occurrence")])
def test_other_encoders_than_those_of_the_vectors_or_in_another_order_are_refused(other):
    models = {"base_llm": None}
    before = embed_items(TEXTS, config("tfidf", "base_llm"), models, seed=0)
    expected = f"encoders is {', '.join(other)}, but item_embeddings was made by tfidf, base_llm: name these, in this"
    with pytest.raises(MismatchError, match=expected):
        embed_new_items([*TEXTS, "new"], TEXTS, before, config(*other), models)
