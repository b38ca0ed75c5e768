"""Vectors of items from their descriptions, and those of items that come later."""

import numpy as np
import pytest
from scipy import sparse

from kedro_provenance.errors import MismatchError
from reclora_kedro.history.config import ItemEmbeddingConfig
from reclora_kedro.history.retrieval import unit_vectors
from reclora_kedro.llm import sentence_encoder
from reclora_kedro.llm.item_vectors import (
    embed_items,
    embed_new_items,
    principal_components,
    side_by_side,
    tfidf_vectors,
)

TEXTS = [f"{word} film {number}" for number, word in enumerate(["red", "blue", "green", "red", "blue", "grey", "red"])]


def config(*encoders):
    return ItemEmbeddingConfig(encoders=encoders, max_tokens=8, tokens_per_batch=64, components=3)


@pytest.fixture(autouse=True)
def read_by_letters(monkeypatch):
    """Texts become the counts of some letters."""
    monkeypatch.setattr(
        sentence_encoder,
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
    expected = f"encoders is {', '.join(other)}, but item_embeddings was made with tfidf, base_llm: name these, in this"
    with pytest.raises(MismatchError, match=expected):
        embed_new_items([*TEXTS, "new"], TEXTS, before, config(*other), models)


@pytest.mark.parametrize(("shape", "components", "kept"), [((9, 6), 4, 4), ((3, 6), 4, 3), ((9, 2), 4, 2)])
def test_as_many_components_as_there_can_be(shape, components, kept):
    embeddings = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    reduced, _ = principal_components(embeddings, components, seed=1)
    assert reduced.shape == (shape[0], kept)
    assert reduced.dtype == np.float32
    np.testing.assert_allclose(reduced.mean(0), 0, atol=1e-6)


def test_components_are_the_directions_of_greatest_variance():
    embeddings = np.random.default_rng(0).normal(size=(50, 6)) * [9, 1, 5, 1, 1, 1]
    centred = embeddings - embeddings.mean(0)
    expected = np.linalg.svd(centred)[1][:2]
    reduced, _ = principal_components(embeddings, 2, seed=1)
    np.testing.assert_allclose(np.linalg.norm(reduced, axis=0), expected, rtol=1e-5)


def test_components_lie_in_row_order_as_safetensors_needs_them():
    reduced, _ = principal_components(np.random.default_rng(0).normal(size=(50, 6)), 3, seed=1)
    assert reduced.flags.c_contiguous


@pytest.mark.parametrize("texts", [["Unknown title"] * 5, ["A Film"], ["Film", "..."]])
def test_texts_that_tell_no_items_apart_are_refused(texts):
    with pytest.raises(
        ValueError, match=rf"has {len(texts)} items whose descriptions, such as '{texts[0]}', have too few"
    ):
        tfidf_vectors(texts)


def test_tfidf_vectors_have_length_one_and_know_rare_words_from_common_ones():
    vectors, _ = tfidf_vectors(["film red", "film blue", "film red sea", ""])
    similarity = (vectors @ vectors.T).toarray()
    np.testing.assert_allclose(similarity.diagonal(), [1, 1, 1, 0])
    assert similarity[0, 2] > similarity[0, 1] > 0


def test_texts_without_a_word_are_refused():
    with pytest.raises(
        ValueError, match=r"no word for TF-IDF in the descriptions of 2 items\. .* name another encoder"
    ):
        tfidf_vectors(["...", ""])


@pytest.mark.parametrize("components", [3, 50])
def test_components_of_a_sparse_matrix_are_those_of_the_dense_one(components):
    dense = np.random.default_rng(0).poisson(0.3, size=(20, 9)).astype(float)
    reduced, _ = principal_components(sparse.csr_array(dense), components, seed=1)
    kept = min(components, 8)
    expected, _ = principal_components(dense, kept, seed=1)
    assert reduced.shape == (20, kept)
    np.testing.assert_allclose(reduced @ reduced.T, expected @ expected.T, atol=1e-4)
    np.testing.assert_array_equal(reduced, principal_components(sparse.csr_array(dense), components, seed=1)[0])


def test_the_cosine_of_vectors_side_by_side_is_the_mean_of_their_cosines():
    random = np.random.default_rng(0)
    parts = [random.normal(size=(5, 3)), 100 * random.normal(size=(5, 7))]
    together = unit_vectors(side_by_side(parts))
    cosines = [unit_vectors(part) @ unit_vectors(part).T for part in parts]
    np.testing.assert_allclose(together @ together.T, np.mean(cosines, axis=0), atol=1e-6)
    assert side_by_side(parts[:1]) is parts[0]
