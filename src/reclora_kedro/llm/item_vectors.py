"""Item vectors from descriptions, for all items at once or for new items only."""

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
    """Embed items with each encoder and keep the principal components, side by side.

    Args:
        texts: one description per item.
        config: the encoders, and the dimensions kept of each.
        encoders: language models and sentence encoders by name, and the log for co-occurrences.
        seed: seed of the principal component analysis.
        engine: where the texts are encoded.

    Returns:
        embeddings (items, d), encoders (their names in UTF-8, one per line), encoder_widths (columns of each encoder);
        for each text encoder `<encoder>.mean` and `<encoder>.directions`, see `Projection`; for TF-IDF also
        `tfidf.words` (UTF-8, one word per line) and `tfidf.idf`.
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
    """Extend the vectors of earlier items by those of new ones; an earlier vector changes only if its text did.

    Args:
        texts: one description per item, earlier items first.
        texts_before: descriptions from which the earlier vectors were made.
        before: result of `embed_items` for the earlier items.
        config: as for `embed_items`.
        encoders: as for `embed_items`.
        engine: where the texts are encoded.

    Returns:
        As `embed_items`.

    Raises:
        MismatchError: the earlier vectors were made by other encoders.
    """
    encoders_before = _decode(before["encoders"])
    if encoders_before != [*config.encoders]:
        raise MismatchError(
            f"history.item_embedding.encoders is {', '.join(config.encoders)}, but item_embeddings was made by "
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
            embedded = embed_texts(encoders[name], new, config.max_tokens, config.tokens_per_batch, engine)
        parts[place] = Projection(before[f"{name}.mean"], before[f"{name}.directions"])(embedded)
    vectors[changed] = side_by_side(parts)
    return before | {"embeddings": vectors}


def _encode(lines: Sequence[str]) -> np.ndarray:
    return np.frombuffer("\n".join(lines).encode(), dtype=np.uint8)


def _decode(lines: np.ndarray) -> list[str]:
    return lines.tobytes().decode().split("\n")
