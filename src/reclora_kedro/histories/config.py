"""Settings of the history step."""

from pydantic import Field

from reclora_kedro.histories.item_text import ItemEmbeddingConfig
from reclora_kedro.histories.negatives import NegativesConfig
from reclora_kedro.histories.retrieval import WindowConfig
from reclora_kedro.histories.sequences import RatingLevels, Ties
from reclora_kedro.histories.splits import PromptRowsConfig, SplitConfig
from reclora_kedro.parameters import Block, Count, Seed


class HistoryConfig(Block):
    """The whole `history` block: checked as one, so that a misspelt key in any environment is refused."""

    seed: Seed = Field(description="of the draws of negatives and prompt rows, and of the principal component analysis")
    min_history: Count = Field(description="earlier events that a row needs to be a sample")
    ties: Ties = Field(description="strict: a history ends before its row's second; order: before the row")
    rating_levels: RatingLevels = Field(
        description="levels that the lens tells ratings apart by: quantiles, a step, or null: each rating is one"
    )
    split: SplitConfig
    negatives: NegativesConfig
    item_embedding: ItemEmbeddingConfig
    short: dict[str, WindowConfig | None] = Field(description="histories that prompts show, by name; null: dropped")
    prompt_rows: PromptRowsConfig
