"""Train, validation and test rows."""

from typing import Literal, Self

import polars as pl
from pydantic import Field, model_validator

from reclora_kedro.errors import require_both_classes
from reclora_kedro.parameters import Block, Share


class SplitConfig(Block):
    """How samples are divided into train, validation and test."""

    kind: Literal["global_time", "per_user_last_out"]
    train: Share = Field(gt=0)
    validation: Share = Field(gt=0)

    @model_validator(mode="after")
    def _leave_rows_to_test(self) -> Self:
        if self.train + self.validation >= 1:
            raise ValueError(
                f"train + validation is {self.train} + {self.validation}, which leaves no rows to test: "
                "lower them to a sum below 1"
            )
        return self


def split_of(place: pl.Expr, units: int, later_units: pl.Expr, config: SplitConfig) -> pl.Expr:
    """The split of units: train, validation or test. A unit is a sample, or all samples of an impression.

    No row's history holds anything of its own second or later (where ties are strict), so in neither kind does a
    training row see a validation or test event of its user. `global_time` promises more: nothing that the training rows
    hold is later than any validation or test row, whoever the user. `per_user_last_out` keeps that order within each
    user only: other users' training rows may be later than a user's test row, so what was popular then is known to the
    lens. A test row's history may hold earlier test events, as it would at serving time.

    Args:
        place: of a unit among all, in (timestamp, user, item) order.
        units: how many there are.
        later_units: how many units of its user come after it.
        config: `global_time` takes the first `int(train * units)` to train, the next `int(validation * units)` to
            validate and the rest to test; `per_user_last_out` takes each user's last unit to test and the one before to
            validate.

    Examples:
        >>> samples = pl.DataFrame({"user_index": [0] * 10})
        >>> config = SplitConfig(kind="global_time", train=0.6, validation=0.2)
        >>> place = pl.int_range(pl.len())
        >>> samples.select(split=split_of(place, 10, 9 - place, config))["split"].value_counts(sort=True).rows()
        [('train', 6), ('validation', 2), ('test', 2)]
    """
    if config.kind == "global_time":
        train_end = int(config.train * units)
        validation_end = train_end + int(config.validation * units)
        trains, validates = place < train_end, place < validation_end
    else:
        trains, validates = later_units > 1, later_units == 1
    return pl.when(trains).then(pl.lit("train")).when(validates).then(pl.lit("validation")).otherwise(pl.lit("test"))


def require_classes_in_splits(samples: pl.DataFrame | pl.LazyFrame) -> None:
    """Refuse samples of which a split has one class only, or none at all.

    Raises:
        ValueError: names the split.
    """
    label = pl.col("label")
    counts = samples.lazy().group_by("split").agg(label.sum().cast(pl.Int64), pl.len()).collect(engine="streaming")
    by_split = {name: (positives, rows) for name, positives, rows in counts.iter_rows()}
    for name in ("train", "validation", "test"):
        require_both_classes(
            *by_split.get(name, (0, 0)),
            f"the {name} split of the samples",
            "Change history.split, lower history.min_history, move the label threshold of ingestion, or let "
            "history.negatives draw what the log does not hold.",
        )
