"""Parameters of the evaluation."""

from pydantic import Field

from reclora_kedro.parameters import Block


class EvaluationConfig(Block):
    """How scores are turned into intervals and bins."""

    confidence: float = Field(0.95, gt=0.5, lt=1, description="Level of the intervals, a share of one.")
    calibration_bins: int = Field(10, ge=2, le=100, description="Bins of equal row counts for each model.")
