"""Nodes of the candidates step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reclora_kedro.candidates.next_item.config import RetrieverConfig
from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.evaluation.records import Records
from reclora_kedro.history.log import InteractionLog

if TYPE_CHECKING:
    from reclora_kedro.candidates.next_item.base import Retriever
    from reclora_kedro.distributed.checkpoints import CheckpointStore


def train_retriever(
    log: InteractionLog, checkpoints: CheckpointStore, config: RetrieverConfig, engine: EngineConfig
) -> tuple[Records, Retriever]:
    """Train the retriever; return its training log, and the retriever of the best epoch."""
    from reclora_kedro.candidates.next_item.training import fit_retriever

    retriever, training_log = fit_retriever(log, config, engine, checkpoints)
    return training_log, retriever
