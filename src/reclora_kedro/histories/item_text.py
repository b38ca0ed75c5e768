"""Descriptions of items, and reduction of their vectors to few dimensions."""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import numpy as np
import polars as pl
from pydantic import Field
from scipy import sparse

from kedro_provenance.parameters import Block, Resource
from reclora_kedro.histories.retrieval import unit_vectors
from reclora_kedro.interactions.schema import field_names
from reclora_kedro.parameters import Count, EachOnce

MOST_COMPONENTS = 4096  # wider than what encoders leave
TFIDF = "tfidf"
"""Name of the encoder without a model: TF-IDF weights of the words of all descriptions."""


class ItemEmbeddingConfig(Block):
    """How items' descriptions become vectors."""

    encoders: Annotated[tuple[str, ...], Field(min_length=1), EachOnce]
    max_tokens: Count
    tokens_per_batch: Resource[Count]
    components: Annotated[Count, Field(le=MOST_COMPONENTS)]

    @property
    def with_input(self) -> tuple[str, ...]:
        """The encoders that need more than the descriptions: a model, or the log."""
        return tuple(name for name in self.encoders if name != TFIDF)


def describe_items(items: pl.DataFrame) -> list[str]:
    """Return one line per item, from its title and text fields; absent fields are left out.

    Examples:
        >>> items = pl.DataFrame({
        ...     "item_id": [1, 2], "title": ["Toy Story (1995)", "Heat (1995)"], "genres": ["Animation, Comedy", None],
        ... })
        >>> describe_items(items)
        ['Toy Story (1995). genres: Animation, Comedy', 'Heat (1995)']
    """
    fields = [pl.format("{}: {}", pl.lit(name.replace("_", " ")), name) for name in field_names(items)]
    return items.select(pl.concat_str("title", *fields, separator=". ", ignore_nulls=True)).to_series().to_list()


class TfidfWords(NamedTuple):
    """The words of TF-IDF in the order of their columns, and their inverse document frequencies, (words,)."""

    words: list[str]
    idf: np.ndarray


def tfidf_vectors(texts: Sequence[str], vocabulary: TfidfWords | None = None) -> tuple[sparse.csr_array, TfidfWords]:
    """Return TF-IDF vectors of texts, of unit length or, without a word, zero; and the words.

    With a `vocabulary`, only its words count, with its frequencies.

    Raises:
        ValueError: no text has a word, or all have the same ones.

    Examples:
        >>> vectors, words = tfidf_vectors(["Red Nail Polish", "Nail File", "Shampoo"])
        >>> (vectors @ vectors.T).toarray().round(2)
        array([[1.  , 0.29, 0.  ],
               [0.29, 1.  , 0.  ],
               [0.  , 0.  , 1.  ]])
        >>> (tfidf_vectors(["Nail Varnish"], words)[0] @ vectors.T).toarray().round(2)
        array([[0.47, 0.61, 0.  ]])
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", vocabulary=vocabulary and vocabulary.words)
    if vocabulary:
        words.idf_ = vocabulary.idf
        return sparse.csr_array(words.transform(texts)), vocabulary
    try:
        vectors = sparse.csr_array(words.fit_transform(texts))
    except ValueError as error:
        raise ValueError(
            f"None of the {len(texts)} items' descriptions has a word for TF-IDF: name another encoder in "
            "history.item_embedding.encoders, or give items a title."
        ) from error
    if min(vectors.shape) < 2 or (vectors.max(axis=0) != vectors.min(axis=0)).nnz == 0:
        raise ValueError(
            f"The {len(texts)} items' descriptions, such as {texts[0]!r}, have too few different words for TF-IDF to "
            "tell items apart: name another encoder in history.item_embedding.encoders, or give items texts."
        )
    return vectors, TfidfWords(words.get_feature_names_out().tolist(), words.idf_)


class Projection(NamedTuple):
    """A reduction of embeddings: their mean, (hidden,), and directions, (components, hidden)."""

    mean: np.ndarray
    directions: np.ndarray

    def __call__(self, embeddings: np.ndarray | sparse.csr_array) -> np.ndarray:
        """Project embeddings (items, hidden) onto the directions: float32, (items, components)."""
        reduced = embeddings @ self.directions.T - self.mean @ self.directions.T
        return np.ascontiguousarray(reduced, dtype=np.float32)


def principal_components(
    embeddings: np.ndarray | sparse.csr_array, components: int, seed: int
) -> tuple[np.ndarray, Projection]:
    """Project centred embeddings onto their directions of greatest variance (RecLoRA, section 3.2).

    Args:
        embeddings: shape (items, hidden).
        components: dimensions to keep; reduced to items and hidden, and for a sparse matrix to one less.
        seed: seed of the solver's starting vector, if any.

    Returns:
        Float32, shape (items, min(components, items, hidden)), and the projection for later embeddings.
    """
    from sklearn.decomposition import PCA

    most = min(embeddings.shape)
    if isinstance(embeddings, np.ndarray):
        analysis = PCA(n_components=min(components, most), random_state=seed)
    else:  # of the solvers that take a sparse matrix, the one that needs no square matrix of all words
        analysis = PCA(n_components=min(components, most - 1), svd_solver="arpack", random_state=seed)
    # safetensors writes an array's memory as it lies: one in column order would come back scrambled.
    reduced = np.ascontiguousarray(analysis.fit_transform(embeddings), dtype=np.float32)
    return reduced, Projection(np.ascontiguousarray(analysis.mean_), np.ascontiguousarray(analysis.components_))


def side_by_side(vectors: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate the vectors of encoders, (items, dimensions), so that the cosine is the mean of their cosines.

    The vectors of a single encoder are returned unchanged, as float32.

    Examples:
        >>> side_by_side([np.array([[3.0, 4.0]]), np.array([[2.0]])])
        array([[0.6, 0.8, 1. ]], dtype=float32)
    """
    if len(vectors) == 1:
        return vectors[0]
    return np.concatenate([unit_vectors(part) for part in vectors], axis=1).astype(np.float32)
