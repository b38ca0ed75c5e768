"""Nodes of the monitoring pipeline."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from reclora_extras.monitoring.config import MonitoringConfig
from reclora_kedro.evaluation.records import Records
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.recommendation.chosen import StoredChoice, stored_choice
from reclora_kedro.recommendation.config import RecommendationConfig
from reclora_kedro.terminal import show

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from reclora_kedro.candidates.next_item.base import Retriever
    from reclora_kedro.lens.base import Lens

logger = logging.getLogger(__name__)


def measure_drift(
    log: InteractionLog,
    lens: Lens,
    candidate_choice: StoredChoice,
    recommendation: RecommendationConfig,
    config: MonitoringConfig,
    retriever: Retriever | None = None,
) -> Records:
    """Return populations, accuracy and alarms of each period after the last training row of the current lens."""
    from reclora_extras.monitoring import drift, report

    records = drift.measure_drift(log, lens, stored_choice(candidate_choice), recommendation, config, retriever)
    for record in records:
        for alarm in record["alarms"]:
            logger.warning("Drift from %s on: %s", report.day(record["begin"]), alarm)
    return records


def plot_drift(records: Records, config: MonitoringConfig) -> go.Figure:
    """Plot accuracy, calibration, populations and unknown ids by period."""
    from reclora_extras.monitoring import report

    return report.plot_drift(records, config.alarms)


def write_drift_report(records: Records, figure: go.Figure, config: MonitoringConfig) -> str:
    """Render the drift report as an HTML page."""
    from reclora_extras.monitoring import report

    return report.render_drift(records, figure, config)


def show_drift(records: Records) -> None:
    """Print the drift report."""
    from reclora_extras.monitoring import report

    show(report.drift_table(records))
