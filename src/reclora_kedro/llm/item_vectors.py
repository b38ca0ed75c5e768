"""Vectors of items from their descriptions: of all items at once, and later of new ones beside them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reclora_kedro.distributed.engine import LOCAL, EngineConfig
from reclora_kedro.errors import MismatchError
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
        embeddings (items, d), encoder_widths (how many of the d columns are each encoder's), and of each encoder of
        texts `<encoder>.mean` and `<encoder>.directions`, see `Projection`; of TF-IDF `tfidf.words` (UTF-8, a line per
        word) and `tfidf.idf`, too.
    """
    parts, fitted = [], Arrays()
    for name in config.encoders:
        if name == CO_OCCURRENCE:
            parts.append(co_occurrence_vectors(encoders[name], config.components, seed))
            continue
        if name == TFIDF:
            vectors, words = tfidf_vectors(texts)
            fitted["tfidf.words"] = np.frombuffer("\n".join(words.words).encode(), dtype=np.uint8)
            fitted["tfidf.idf"] = words.idf
        else:
            vectors = embed_texts(encoders[name], texts, config.max_tokens, config.tokens_per_batch, engine)
        part, projection = principal_components(vectors, config.components, seed)
        fitted |= {f"{name}.{field}": value for field, value in projection._asdict().items()}
        parts.append(part)
    widths = np.array([part.shape[1] for part in parts])
    return {"embeddings": side_by_side(parts), "encoder_widths": widths, **fitted}


def embed_new_items(
    texts: Sequence[str],
    before: Arrays,
    config: ItemEmbeddingConfig,
    encoders: Mapping[str, Any],
    engine: EngineConfig = LOCAL,
) -> Arrays:
    """The vectors of earlier items with those of new ones below; what `embed_items` returned, and returns.

    Args:
        texts: one description per item, the earlier ones first.
        before: the vectors of the earlier items.
        config: see `embed_items`, as are the other arguments.
        encoders: by name.
        engine: what the texts are read on.

    Raises:
        MismatchError: the vectors are not by these encoders.
    """
    fitted = [name.removesuffix(".mean") for name in before if name.endswith(".mean")]
    if {*fitted} != {*config.encoders} - {CO_OCCURRENCE} or len(before["encoder_widths"]) != len(config.encoders):
        raise MismatchError(
            f"history.item_embedding.encoders is {', '.join(config.encoders)}, but item_embeddings has what "
            f"{', '.join(sorted(fitted)) or 'no encoder'} needs for new items: name the encoders that made them.",
            "item_embeddings",
        )
    if not (new := texts[len(before["embeddings"]) :]):
        return before
    parts = []
    for name, width in zip(config.encoders, before["encoder_widths"], strict=True):
        if name == CO_OCCURRENCE:  # of an item without a training like
            parts.append(np.zeros((len(new), width), dtype=np.float32))
            continue
        if name == TFIDF:
            words = before["tfidf.words"].tobytes().decode().split("\n")
            vectors, _ = tfidf_vectors(new, TfidfWords(words, before["tfidf.idf"]))
        else:
            vectors = embed_texts(encoders[name], new, config.max_tokens, config.tokens_per_batch, engine)
        parts.append(Projection(before[f"{name}.mean"], before[f"{name}.directions"])(vectors))
    return before | {"embeddings": np.concatenate([before["embeddings"], side_by_side(parts)])}
