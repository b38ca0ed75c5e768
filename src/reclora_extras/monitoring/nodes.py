"""The node of the monitoring pipeline that reads models; the others are functions of the report."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from reclora_extras.monitoring import report
from reclora_extras.monitoring.config import MonitoringConfig
from reclora_kedro.evaluation.records import Records
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.recommendation.chosen import StoredChoice, stored_choice
from reclora_kedro.recommendation.config import RecommendationConfig

if TYPE_CHECKING:
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
    from reclora_extras.monitoring import drift

    records = drift.measure_drift(log, lens, stored_choice(candidate_choice), recommendation, config, retriever)
    for record in records:
        for alarm in record["alarms"]:
            logger.warning("Drift from %s on: %s", report.day(record["begin"]), alarm)
    return records
