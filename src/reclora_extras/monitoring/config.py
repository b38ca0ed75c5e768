"""Settings of the drift report."""

from typing import Annotated, ClassVar

from pydantic import Field

from kedro_provenance.parameters import Block
from reclora_kedro.parameters import Count, NonNegative, Positive, Real, Seed

Share = Annotated[Real, Field(ge=0, le=1)]

K = 10  # length of the lists whose hit rate is measured
POPULATIONS = ("users", "items", "ratings", "scores")


class AlarmConfig(Block):
    """What each period may differ from the reference by, see the comments in ``conf/``; null: any amount."""

    least: Count
    psi: NonNegative | None
    unknown: Share | None
    calibration: Share | None
    auc_fall: Share | None
    hit_rate_fall: Share | None


class MonitoringConfig(Block):
    """Periods after the lens's last training row, what is measured in each, and the alarms."""

    # Drawn uniformly from each period: an AUC of .7 is then known to ±.02 (95%), an HR@10 of .1 to ±.04.
    rows: ClassVar[int] = 2000  # samples that the lens scores
    likes: ClassVar[int] = 200  # likes whose items are ranked in the recommender's lists

    reference_days: Positive
    period_days: Positive
    alarms: AlarmConfig
    seed: Seed
