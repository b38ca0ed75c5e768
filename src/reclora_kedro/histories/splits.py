"""Train, validation and test rows."""

from typing import Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from kedro_provenance.parameters import Block
from reclora_kedro.errors import require_both_classes
from reclora_kedro.parameters import Share

SPLIT_NAMES = ("train", "validation", "test")
"""In the order of time."""


class SplitShares(Block):
    """Shares of samples that train and validate; the rest tests."""

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


class SplitConfig(SplitShares):
    """How samples are divided into train, validation and test."""

    kind: Literal["global_time", "per_user_last_out"]

    def bounds(self, samples: int) -> tuple[int, int]:
        """Where validation and test begin in `global_time`: places among the samples in the order of time."""
        train_end = int(self.train * samples)
        return train_end, train_end + int(self.validation * samples)


def split_of(place: pl.Expr, validation_begins: pl.Expr | int, test_begins: pl.Expr | int) -> pl.Expr:
    """The split of samples: train, validation or test.

    No row's history holds anything of its own second or later (where ties are strict), so in neither kind does a
    training row see a validation or test event of its user. `global_time` promises more: nothing that the training rows
    hold is as late as any validation or test row, whoever the user. `per_user_last_out` keeps that order within each
    user only: other users' training rows may be later than a user's test row, so what was popular then is known to the
    lens. A test row's history may hold earlier test events, as it would at serving time.

    Args:
        place: among all samples in the order of time (global_time), or the second (per_user_last_out); where ties are
            in order, the row's own event.
        validation_begins: the first place that validates, or the user's last second, or event, but one.
        test_begins: the first place that tests, or the user's last second, or event.

    Examples:
        >>> config = SplitConfig(kind="global_time", train=0.6, validation=0.2)
        >>> pl.select(split=split_of(pl.int_range(10), *config.bounds(10)))["split"].value_counts(sort=True).rows()
        [('train', 6), ('validation', 2), ('test', 2)]
    """
    number = pl.when(place < validation_begins).then(0).when(place < test_begins).then(1).otherwise(2)
    return pl.lit(pl.Series(SPLIT_NAMES)).gather(number)  # one column of names: each takes 16 bytes per row


def uncut(place: int, seconds: np.ndarray) -> int:
    """A place among ascending seconds, moved to the nearer end of the moment that it would cut in two.

    Examples:
        >>> seconds = np.array([7, 8, 8, 8, 9])
        >>> [uncut(place, seconds) for place in (-3, 1, 2, 3, 4)]
        [-3, 1, 1, 4, 4]
    """
    if not 0 < place < len(seconds):
        return place
    first, last = (int(np.searchsorted(seconds, seconds[place], side)) for side in ("left", "right"))
    return first if place - first < last - place else last


def count_in_splits(samples: pl.LazyFrame) -> dict[str, tuple[int, int]]:
    """How many likes and how many rows each split has."""
    label = pl.col("label")
    counts = samples.group_by("split").agg(label.sum().cast(pl.Int64), pl.len()).collect(engine="streaming")
    by_split = {name: (likes, rows) for name, likes, rows in counts.iter_rows()}
    return {name: by_split.get(name, (0, 0)) for name in SPLIT_NAMES}


def require_classes_in_splits(counts: dict[str, tuple[int, int]]) -> None:
    """Refuse samples of which a split has one class only, or none at all; counts are those of `count_in_splits`.

    Raises:
        ValueError: names the split.
    """
    for name, (likes, rows) in counts.items():
        require_both_classes(
            likes,
            rows,
            f"the {name} split of the samples",
            "Change history.split, lower history.min_history, move the label threshold of ingestion, or let "
            "history.negatives draw what the log does not hold.",
        )
