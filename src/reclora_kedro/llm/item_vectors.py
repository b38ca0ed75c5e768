"""Vectors of items from their descriptions: of all items at once, and later of new ones beside them."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from kedro_provenance.errors import MismatchError
from reclora_kedro.distributed.engine import LOCAL, EngineConfig
from reclora_kedro.histories.co_occurrences import CO_OCCURRENCE, co_occurrence_vectors
from reclora_kedro.histories.item_text import (
    TFIDF,
    ItemEmbeddingConfig,
    Projection,
    TfidfWords,
    principal_components,
    side_by_side,
    tfidf_vectors,
)
from reclora_kedro.llm.embedding import embed_texts

Arrays = dict[str, np.ndarray]


def embed_items(
    texts: Sequence[str],
    config: ItemEmbeddingConfig,
    encoders: Mapping[str, Any],
    seed: int,
    engine: EngineConfig = LOCAL,
) -> Arrays:
    """Vectors of items by each encoder, side by side, and what later items get theirs by.

    Args:
        texts: one description per item.
        config: which encoders, and how many dimensions are kept of each.
        encoders: by name, the language models and sentence encoders, and the log for co-occurrences.
        seed: of the principal component analysis.
        engine: what the texts are read on.

    Returns:
        embeddings (items, d), encoders (their names in UTF-8, a line each), encoder_widths (how many of the d columns
        are each one's), and of each encoder of texts `<encoder>.mean` and `<encoder>.directions`, see `Projection`; of
        TF-IDF `tfidf.words` (UTF-8, a line per word) and `tfidf.idf`, too.
    """
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
            vectors = embed_texts(encoders[name], texts, config.max_tokens, config.tokens_per_batch, engine)
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
    """The vectors of earlier items with those of new ones below; what `embed_items` returned, and returns.

    An earlier item has another vector only if its text is another one.

    Args:
        texts: one description per item, the earlier ones first.
        texts_before: those by which the earlier items got their vectors.
        before: the vectors of the earlier items.
        config: see `embed_items`, as are the other arguments.
        encoders: by name.
        engine: what the texts are read on.

    Raises:
        MismatchError: the vectors are not by these encoders.
    """
    made_by = _decode(before["encoders"])
    if made_by != [*config.encoders]:
        raise MismatchError(
            f"history.item_embedding.encoders is {', '.join(config.encoders)}, but item_embeddings was made by "
            f"{', '.join(made_by)}: name these, in this order.",
            "item_embeddings",
        )
    others = [place for place, pair in enumerate(zip_longest(texts, texts_before)) if pair[0] != pair[1]]
    if not others:
        return before
    new = [texts[place] for place in others]
    vectors = np.zeros((len(texts), before["embeddings"].shape[1]), dtype=np.float32)
    vectors[: len(texts_before)] = before["embeddings"]
    parts = np.split(vectors[others], before["encoder_widths"].cumsum()[:-1], axis=1)
    for place, name in enumerate(config.encoders):
        if name == CO_OCCURRENCE:  # known before, or of an item without a training like
            continue
        if name == TFIDF:
            embedded, _ = tfidf_vectors(new, TfidfWords(_decode(before["tfidf.words"]), before["tfidf.idf"]))
        else:
            embedded = embed_texts(encoders[name], new, config.max_tokens, config.tokens_per_batch, engine)
        parts[place] = Projection(before[f"{name}.mean"], before[f"{name}.directions"])(embedded)
    vectors[others] = side_by_side(parts)
    return before | {"embeddings": vectors}


def _encode(lines: Sequence[str]) -> np.ndarray:
    return np.frombuffer("\n".join(lines).encode(), dtype=np.uint8)


def _decode(lines: np.ndarray) -> list[str]:
    return lines.tobytes().decode().split("\n")
