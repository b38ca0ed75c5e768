"""Settings of the drift report."""

from typing import Annotated

from pydantic import Field

from kedro_provenance.parameters import Block
from reclora_kedro.parameters import Count, NonNegative, Positive, Real, Seed

Share = Annotated[Real, Field(ge=0, le=1)]


class AlarmConfig(Block):
    """What each period may differ from the reference by; null: any amount.

    Attributes:
        least: fewest events, rows or likes that a value which raises an alarm is measured on.
        psi: population stability index of users, items, ratings and scores.
        unknown: share of events of users, or of items, that the lens has no id of.
        calibration: difference between mean score and share of likes.
        auc_fall: AUC below that of the reference.
        hit_rate_fall: HR@10 below that of the reference.
    """

    least: Count
    psi: NonNegative | None
    unknown: Share | None
    calibration: Share | None
    auc_fall: Share | None
    hit_rate_fall: Share | None


class MonitoringConfig(Block):
    """Periods after the lens's last training row, what is measured in each, and the alarms."""

    reference_days: Positive
    period_days: Positive
    rows: Count
    likes: Count
    alarms: AlarmConfig
    seed: Seed
