"""Settings of the history step."""

from typing import Annotated, Any

from pydantic import AfterValidator

from kedro_provenance.parameters import Block
from reclora_kedro.extensions import added_fields, block_with
from reclora_kedro.histories.item_text import ItemEmbeddingConfig
from reclora_kedro.histories.negatives import NegativesConfig
from reclora_kedro.histories.questions import PromptRowsConfig
from reclora_kedro.histories.retrieval import WindowConfig
from reclora_kedro.histories.selections import SELECTIONS
from reclora_kedro.histories.sequences import RatingLevels, Ties
from reclora_kedro.histories.splits import SplitConfig
from reclora_kedro.parameters import Count, Seed

Extended: Any = block_with(added_fields("few_shot"))


class FewShotConfig(Extended):
    """How the few-shot rows are selected; extensions add fields."""

    selection: Annotated[str, AfterValidator(SELECTIONS.require)] = "uniform"


class HistoryConfig(Block):
    """The block `history`, validated as a whole so that a misspelt key in any environment is refused."""

    seed: Seed
    min_history: Count
    ties: Ties
    rating_levels: RatingLevels
    split: SplitConfig
    negatives: NegativesConfig
    item_embedding: ItemEmbeddingConfig
    short: dict[str, WindowConfig | None]
    prompt_rows: PromptRowsConfig
