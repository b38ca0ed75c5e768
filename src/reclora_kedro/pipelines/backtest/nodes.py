"""Nodes of the backtest step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from kedro_provenance.parameters import reads
from reclora_kedro.candidates.next_item.config import RetrieverConfig
from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.evaluation import figures
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.recommendation import backtest
from reclora_kedro.recommendation.backtest import AuditRow, Backtest, WindowRow
from reclora_kedro.recommendation.chosen import models_of, validated_configs
from reclora_kedro.recommendation.config import BacktestConfig, RecommendationConfig

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from reclora_kedro.candidates.next_item.base import Retriever


@reads(history=["item_embedding"])
def backtest_methods(
    log: InteractionLog,
    config: BacktestConfig,
    recommendation: RecommendationConfig,
    history: HistoryConfig,
    bootstrap: Bootstrap,
    # Both are None where no retriever is trained. An optional type would be another one to Kedro than other nodes name.
    retriever: RetrieverConfig = None,  # type: ignore[assignment]  # see above
    engine: EngineConfig = None,  # type: ignore[assignment]  # see above
    **sources: Any,
) -> tuple[list[WindowRow], list[AuditRow]]:
    """Rank likes of each window by models fitted before it; return the metrics, and an audit of the last window."""
    return Backtest(
        log=log,
        config=config,
        recommendation=recommendation,
        configs=validated_configs(recommendation.sources, sources),
        bootstrap=bootstrap,
        encoders=history.item_embedding.encoders,
        train=partial(train_for_windows, config=retriever, engine=engine) if retriever else None,
    ).run()


def train_for_windows(log: InteractionLog, config: RetrieverConfig, engine: EngineConfig) -> Retriever:
    """Train a retriever on the training split of a log that ends with a window."""
    from reclora_kedro.candidates.next_item.training import fit_retriever

    return fit_retriever(log, config, engine)[0]


def audit_log(interactions: pl.LazyFrame, audited: Sequence[AuditRow]) -> list[AuditRow]:
    """Return what the log's figures may rest on: ties and the order of rows, sequence, and time."""
    return [*backtest.audit_ties(interactions), *audited]


def plot_backtest(metrics: Sequence[WindowRow], recommendation: RecommendationConfig) -> go.Figure:
    """Plot hit rate and NDCG of every method by window."""
    return figures.plot_backtest(
        metrics, {name: model.STYLE for name, model in models_of(recommendation.sources).items()}
    )
