"""Few-shot rows drawn uniformly."""

import polars as pl

from kedro_provenance.parameters import reads
from reclora_kedro.history.config import FewShotConfig, HistoryConfig
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.questions import LEARNING, draw_questions

INPUTS: list[str] = []


@reads(history=[*LEARNING, "seed"], few_shot=["selection"])
def draw_learning_questions(
    log_without_embeddings: InteractionLog, history: HistoryConfig, few_shot: FewShotConfig
) -> pl.DataFrame:
    """Draw the few-shot rows and the validation rows uniformly."""
    uses = ("few_shot", "validation")
    return draw_questions(log_without_embeddings.samples, uses, history.prompt_rows, history.seed)
