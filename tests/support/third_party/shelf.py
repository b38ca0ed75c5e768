"""Items that stand near the user's latest one in the table of items."""

from typing import ClassVar

import numpy as np

from reclora_kedro.candidates.item_model import ItemModel
from reclora_kedro.evaluation.styles import Style


class Shelf(ItemModel):
    NOTE: ClassVar = "what stands on the same shelf"
    STYLE: ClassVar = Style("#A1B2C3", "circle", "dot")

    @classmethod
    def fit(cls, training, settings):
        return cls()

    def scores(self, moments):
        if not len(moments.events.item_index):
            return np.zeros((len(moments), moments.items))
        latest = np.where(moments.has_events, moments.events.item_index[moments.ends - 1], 0)
        return -np.abs(latest[:, None] - np.arange(moments.items)).astype(float)
