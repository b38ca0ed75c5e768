"""TF-IDF vectors of the items' descriptions."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.sparse import csr_array

from reclora_kedro.history.fields import describe_items
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.llm.item_vectors import tfidf_vectors


@dataclass(frozen=True, eq=False)
class Texts:
    """TF-IDF vectors of the items' descriptions; equal descriptions have one."""

    vectors: csr_array  # vectors of length one, float32, shape (descriptions, words)
    of_item: np.ndarray  # the description of each item, shape (items,)

    @classmethod
    def from_log(cls, log: InteractionLog) -> Self | None:
        """Return the vectors of a log's items; None if their descriptions have too few words."""
        descriptions = describe_items(log.items)
        try:
            vectors = tfidf_vectors(descriptions)[0].astype(np.float32)
        except ValueError:
            return None
        number = {text: place for place, text in enumerate(dict.fromkeys(descriptions))}
        of_item = np.array([number[text] for text in descriptions])
        return cls(vectors[np.unique(of_item, return_index=True)[1]], of_item)
