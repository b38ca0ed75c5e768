"""Settings of a lens."""

import pytest
from pydantic import ValidationError

from reclora_kedro.lens.config import LensConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "dni"}, "'dni' is unknown: choose one of autoint, caser, dcnv2.*nearest one is din"),
        ({"dropuot": 0.1}, "dropuot"),
        ({"dropout": 1.0}, "less than 1"),
        ({"co_occurrence_folds": True}, "co_occurrence_folds\n.*a number, not true"),
        ({"co_occurrence_folds": 11}, "co_occurrence_folds\n.*less than or equal to 10"),
        ({"retrieved_negatives": True}, "retrieved_negatives\n.*a number, not true"),
        ({"statistics_delay": -1}, "greater than or equal to 0"),
        ({"statistics_delay": "daily"}, "statistics_delay"),
    ],
)
def test_wrong_settings_are_refused(config, changes, message) -> None:
    with pytest.raises(ValidationError, match=message):
        LensConfig(**config.model_dump() | changes)
