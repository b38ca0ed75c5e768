"""Item vectors from descriptions, for all items at once or for new items only."""

import logging
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from kedro_provenance.errors import Fault, MismatchError, Parameter
from reclora_kedro.distributed.engine import LOCAL, EngineConfig
from reclora_kedro.errors import Table
from reclora_kedro.history.co_occurrences import co_occurrence_vectors
from reclora_kedro.history.config import CO_OCCURRENCE, TFIDF, ItemEmbeddingConfig, missing_for_sentences
from reclora_kedro.history.retrieval import unit_vectors

logger = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]
ENCODERS = Parameter("history.item_embedding.encoders")


def embed_items(
    texts: Sequence[str],
    config: ItemEmbeddingConfig,
    encoders: Mapping[str, Any],
    seed: int,
    engine: EngineConfig = LOCAL,
) -> Arrays:
    """Embed items with each encoder (by name; for co-occurrences, the log) and keep the principal components.

    Returns:
        embeddings (items, d), encoders (their names in UTF-8, one per line), encoder_widths (columns of each encoder);
        for each text encoder `<encoder>.mean` and `<encoder>.directions`, see `Projection`; for TF-IDF also
        `tfidf.words` (UTF-8, one word per line) and `tfidf.idf`.
    """
    if config.encoders == (TFIDF,) and (missing := missing_for_sentences()):
        logger.warning("TF-IDF encodes the texts of items, because the sentence encoder needs %s.", missing)
    parts, fitted = [], Arrays()
    for name in config.encoders:
        if name == CO_OCCURRENCE:
            parts.append(co_occurrence_vectors(encoders[name], config.components, seed))
            continue
        if name == TFIDF:
            vectors, words = tfidf_vectors(texts)
            fitted["tfidf.words"] = _encode(words.words)
            fitted["tfidf.idf"] = words.idf
        else:
            vectors = _embedded(encoders[name], texts, config, engine)
        part, projection = principal_components(vectors, config.components, seed)
        fitted |= {f"{name}.{field}": value for field, value in projection._asdict().items()}
        parts.append(part)
    widths = np.array([part.shape[1] for part in parts])
    names = _encode(config.encoders)
    return {"embeddings": side_by_side(parts), "encoders": names, "encoder_widths": widths, **fitted}


def embed_new_items(
    texts: Sequence[str],
    texts_before: Sequence[str],
    before: Arrays,
    config: ItemEmbeddingConfig,
    encoders: Mapping[str, Any],
    engine: EngineConfig = LOCAL,
) -> Arrays:
    """Extend what `embed_items` returned of `texts_before` by new items; an earlier vector changes if its text did.

    MismatchError is raised for earlier vectors of other encoders.
    """
    encoders_before = _decode(before["encoders"])
    if encoders_before != [*config.encoders]:
        raise MismatchError(
            f"history.item_embedding.encoders is {', '.join(config.encoders)}, but item_embeddings was made with "
            f"{', '.join(encoders_before)}: name these, in this order.",
            "item_embeddings",
        )
    changed = [place for place, pair in enumerate(zip_longest(texts, texts_before)) if pair[0] != pair[1]]
    if not changed:
        return before
    new = [texts[place] for place in changed]
    vectors = np.zeros((len(texts), before["embeddings"].shape[1]), dtype=np.float32)
    vectors[: len(texts_before)] = before["embeddings"]
    parts = np.split(vectors[changed], before["encoder_widths"].cumsum()[:-1], axis=1)
    for place, name in enumerate(config.encoders):
        if name == CO_OCCURRENCE:  # unchanged, or zero for an item without a training like
            continue
        if name == TFIDF:
            embedded, _ = tfidf_vectors(new, TfidfWords(_decode(before["tfidf.words"]), before["tfidf.idf"]))
        else:
            embedded = _embedded(encoders[name], new, config, engine)
        parts[place] = Projection(before[f"{name}.mean"], before[f"{name}.directions"])(embedded)
    vectors[changed] = side_by_side(parts)
    return before | {"embeddings": vectors}


def _embedded(encoder: Any, texts: Sequence[str], config: ItemEmbeddingConfig, engine: EngineConfig) -> np.ndarray:
    from reclora_kedro.llm.sentence_encoder import embed_texts  # imports torch, which TF-IDF does without

    return embed_texts(encoder, texts, config.max_tokens, config.tokens_per_batch, engine)


def _encode(lines: Sequence[str]) -> np.ndarray:
    return np.frombuffer("\n".join(lines).encode(), dtype=np.uint8)


def _decode(lines: np.ndarray) -> list[str]:
    return lines.tobytes().decode().split("\n")


class TfidfWords(NamedTuple):
    """The words of TF-IDF in the order of their columns, and their inverse document frequencies, (words,)."""

    words: list[str]
    idf: np.ndarray


def tfidf_vectors(texts: Sequence[str], vocabulary: TfidfWords | None = None) -> tuple[sparse.csr_array, TfidfWords]:
    """Return TF-IDF vectors of texts, of unit length or, without a word, zero; and the words.

    With a `vocabulary`, only its words count, with its frequencies. Without, Fault is raised if no text has a word, or
    all have the same ones.

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
    advice = "Give items a title, or name another encoder in ", ENCODERS
    try:
        vectors = sparse.csr_array(words.fit_transform(texts))
    except ValueError as error:
        found = f"has no word for TF-IDF in the descriptions of {len(texts)} items"
        raise Fault(Table("raw_items"), found, advice=advice) from error
    if min(vectors.shape) < 2 or (vectors.max(axis=0) != vectors.min(axis=0)).nnz == 0:
        found = f"has {len(texts)} items whose descriptions, such as {texts[0]!r}, have too few different words for "
        raise Fault(Table("raw_items"), f"{found}TF-IDF to tell them apart", advice=advice)
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
    """Project centred embeddings, (items, hidden), onto their directions of greatest variance (RecLoRA, section 3.2).

    There are at most as many as items and as hidden dimensions, and for a sparse matrix one less. The result is
    float32, shape (items, components), with the projection for later embeddings.
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
