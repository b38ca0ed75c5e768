"""Settings of the history step."""

from typing import Literal

from kedro_provenance.parameters import Block
from reclora_kedro.histories.item_text import ItemEmbeddingConfig
from reclora_kedro.histories.negatives import NegativesConfig
from reclora_kedro.histories.questions import PromptRowsConfig
from reclora_kedro.histories.retrieval import WindowConfig
from reclora_kedro.histories.sequences import RatingLevels, Ties
from reclora_kedro.histories.splits import SplitConfig
from reclora_kedro.parameters import Count, Seed


class FewShotConfig(Block):
    """How the rows that the LLM learns from are drawn."""

    selection: Literal["uniform", "quality"] = "uniform"
    candidates_per_row: Count = 2


class HistoryConfig(Block):
    """The whole `history` block: checked as one, so that a misspelt key in any environment is refused."""

    seed: Seed
    min_history: Count
    ties: Ties
    rating_levels: RatingLevels
    split: SplitConfig
    negatives: NegativesConfig
    item_embedding: ItemEmbeddingConfig
    short: dict[str, WindowConfig | None]
    prompt_rows: PromptRowsConfig
