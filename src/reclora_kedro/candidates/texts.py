"""Nearest items by the TF-IDF vectors of their descriptions."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np
from scipy.sparse import csr_array

from reclora_kedro.history.fields import describe_items
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.sequences import places_of
from reclora_kedro.llm.item_vectors import tfidf_vectors

NEAREST = 200  # cosines kept of each item: sums of all would take as long as the catalogue is large
TEXTS_AT_ONCE = 64  # that are compared with all


@dataclass(frozen=True, eq=False)
class Texts:
    """TF-IDF vectors of the items' descriptions; equal descriptions have one."""

    vectors: csr_array  # vectors of length one, float32, shape (descriptions, words)
    of_item: np.ndarray  # the description of each item, shape (items,)
    _nearest: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

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

    def nearest(self, items: np.ndarray) -> csr_array:
        """Return the greatest cosines, at most `NEAREST`, of each of some items: shape (len(items), items)."""
        missing = np.array(sorted({*self.of_item[items].tolist()} - self._nearest.keys()), dtype=np.int64)
        for texts in np.split(missing, range(TEXTS_AT_ONCE, len(missing), TEXTS_AT_ONCE)):
            self._find_nearest(texts)
        rows = [self._nearest[text] for text in self.of_item[items].tolist()]
        nothing = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
        others, cosines = (np.concatenate(each) for each in zip(nothing, *rows, strict=True))
        ends = np.cumsum([0, *(len(near) for near, _ in rows)])
        return csr_array((cosines, others, ends), shape=(len(items), len(self.of_item)))

    def _find_nearest(self, texts: np.ndarray) -> None:
        cosines, order = self.vectors[texts] @ self._by_word, self._items_by_text
        for place, text in enumerate(texts.tolist()):
            own = slice(*cosines.indptr[place : place + 2])
            near, values = cosines.indices[own], cosines.data[own]
            if len(values) > NEAREST:
                most = np.argpartition(values, -NEAREST)[-NEAREST:]
                near, values = near[most], values[most]
            best = np.argsort(-values, kind="stable")
            starts, ends = (np.searchsorted(self.of_item, near[best], side, order) for side in ("left", "right"))
            items = order[places_of(starts, ends)]
            self._nearest[text] = items[:NEAREST], np.repeat(values[best], ends - starts)[:NEAREST]

    @cached_property
    def _by_word(self) -> csr_array:
        return self.vectors.T.tocsr()

    @cached_property
    def _items_by_text(self) -> np.ndarray:
        return np.argsort(self.of_item, kind="stable").astype(np.int32)
