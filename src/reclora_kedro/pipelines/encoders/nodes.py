"""Nodes of the encoders step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kedro_provenance.parameters import reads
from reclora_kedro.evaluation.records import Records
from reclora_kedro.finetuning.config import EncoderTuningConfig
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.item_pairs import text_pairs
from reclora_kedro.history.log import InteractionLog

if TYPE_CHECKING:
    from reclora_kedro.llm.language_model import LanguageModel
    from reclora_kedro.llm.sentence_encoder import SentenceEncoder


@reads(history=["item_embedding.max_tokens"])
def tune_item_encoder(
    log_without_embeddings: InteractionLog,
    encoder: SentenceEncoder | LanguageModel,
    config: EncoderTuningConfig,
    history: HistoryConfig,
) -> tuple[SentenceEncoder, Records]:
    """Tune the encoder on pairs of items that users liked soon after one another; return it with its log."""
    from reclora_kedro.finetuning.item_encoder import tune_encoder

    pairs = text_pairs(log_without_embeddings, config.window)
    return tune_encoder(encoder, pairs, config, history.item_embedding.max_tokens)
