"""Items as texts, and their LLM embeddings in fewer dimensions."""

import numpy as np
import polars as pl
from pydantic import Field

from reclora_kedro.interactions.schema import field_names
from reclora_kedro.parameters import Block


class ItemEmbeddingConfig(Block):
    """How items are embedded by the base LLM."""

    max_tokens: int = Field(ge=1, description="tokens read of an item's description")
    tokens_per_batch: int = Field(ge=1, description="most tokens in one batch of the LLM, padding included")
    components: int = Field(ge=1, description="dimensions kept by the principal component analysis")


def describe_items(items: pl.DataFrame) -> list[str]:
    """One line per item, from its title and text fields; absent fields are left out.

    Examples:
        >>> items = pl.DataFrame({
        ...     "item_id": [1, 2], "title": ["Toy Story (1995)", "Heat (1995)"], "genres": ["Animation, Comedy", None],
        ... })
        >>> describe_items(items)
        ['Toy Story (1995). genres: Animation, Comedy', 'Heat (1995)']
    """
    fields = [pl.format("{}: {}", pl.lit(name.replace("_", " ")), name) for name in field_names(items)]
    return items.select(pl.concat_str("title", *fields, separator=". ", ignore_nulls=True)).to_series().to_list()


def principal_components(embeddings: np.ndarray, components: int, seed: int) -> np.ndarray:
    """Centred embeddings in the directions of their greatest variance (RecLoRA, section 3.2).

    Args:
        embeddings: shape (items, hidden).
        components: dimensions to keep; never more than items or hidden.
        seed: of the randomised solver that large tables take.

    Returns:
        float32, shape (items, min(components, items, hidden)).
    """
    from sklearn.decomposition import PCA

    analysis = PCA(n_components=min(components, *embeddings.shape), random_state=seed)
    # safetensors writes an array's memory as it lies: one in column order would come back scrambled.
    return np.ascontiguousarray(analysis.fit_transform(embeddings), dtype=np.float32)
