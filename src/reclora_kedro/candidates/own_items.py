"""Own items: what the user took before, for logs in which items are bought again."""

from typing import ClassVar, Self

from scipy.sparse import csr_array

from reclora_kedro.candidates.item_model import ItemModel, NoSettings, Training
from reclora_kedro.candidates.moments import Moments
from reclora_kedro.evaluation.styles import Style

EVENTS = 200  # latest ones of each user that count
RECENCY = 0.97  # weight of an event, times that of the next later one


class OwnItems(ItemModel):
    """How often the user took an item, late events counting more; of use with ``recommendation.repeat``."""

    NOTE: ClassVar = "items that the user took most often lately"
    LABEL: ClassVar = "items that the user took before"
    STYLE: ClassVar = Style("#7A5195", "triangle-left", "dot")

    @classmethod
    def fit(cls, training: Training, settings: NoSettings) -> Self:
        return cls()

    def scores(self, moments: Moments) -> csr_array:
        return moments.latest(EVENTS, RECENCY)
